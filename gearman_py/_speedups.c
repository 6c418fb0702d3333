/* The accelerator: what gearman_py/protocol/framing.py does for each packet, in C.

   Each function is the twin of the Python function that its comment names, and does the same;
   what they do is documented there. No rule of Gearman is here: which packets there are, and how
   many arguments each has, is read from framing.py when this is imported. Built by
   packages/accelerator.py; tests/accelerator compares both.  */

#include "_speedups.h"
#include <string.h>

#define HEADER_SIZE 12
#define MAX_NUMBER 255 /* of a packet: write_packet writes it as one byte */
#define UNKNOWN -1     /* the count of arguments of a packet that does not exist */

typedef struct {
    Py_ssize_t highest;                        /* number of a packet */
    Py_ssize_t argument_count[MAX_NUMBER + 1]; /* by number */
    Py_ssize_t large;                          /* framing.LARGE */
} State;

static uint32_t
read_uint32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void
write_uint32(unsigned char *at, uint32_t number)
{
    at[0] = (unsigned char)(number >> 24);
    at[1] = (unsigned char)(number >> 16);
    at[2] = (unsigned char)(number >> 8);
    at[3] = (unsigned char)number;
}

static int
check_count(const char *function, Py_ssize_t given, Py_ssize_t least, Py_ssize_t most)
{
    if (given >= least && given <= most) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() got %zd arguments", function, given);
    return -1;
}

/* framing.split_arguments: a new list of ``count`` arguments.
   NULL without an exception: there are fewer.  */
static PyObject *
split_arguments(const char *body, const char *stop, Py_ssize_t count)
{
    PyObject *arguments = PyList_New(count);
    if (arguments == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        const char *end = stop; /* the last one may contain NULs */
        if (i < count - 1) {
            end = memchr(body, '\0', (size_t)(stop - body));
            if (end == NULL) {
                Py_DECREF(arguments);
                return NULL;
            }
        }
        PyObject *argument = PyBytes_FromStringAndSize(body, end - body);
        if (argument == NULL) {
            Py_DECREF(arguments);
            return NULL;
        }
        PyList_SetItem(arguments, i, argument);
        body = end + 1;
    }
    return arguments;
}

/* Append (number, arguments), whose reference to ``arguments`` is taken over. */
static int
append_message(PyObject *messages, uint32_t number, PyObject *arguments)
{
    PyObject *first = PyLong_FromUnsignedLong(number);
    PyObject *message = first == NULL ? NULL : PyTuple_New(2);
    if (message == NULL) {
        Py_XDECREF(first);
        Py_DECREF(arguments);
        return -1;
    }
    PyTuple_SetItem(message, 0, first);
    PyTuple_SetItem(message, 1, arguments);
    int failed = PyList_Append(messages, message);
    Py_DECREF(message);
    return failed;
}

/* framing.split_packets(data, start, limit, base, max_packet, messages) */
static PyObject *
split_packets(PyObject *module, PyObject *const *given, Py_ssize_t given_count)
{
    const State *state = PyModule_GetState(module);
    if (check_count("split_packets", given_count, 6, 6) < 0) {
        return NULL;
    }
    PyObject *data = given[0], *messages = given[5];
    if (!PyBytes_CheckExact(data) || !PyList_CheckExact(messages)) {
        PyErr_SetString(PyExc_TypeError, "split_packets() takes bytes and a list");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(given[1]);
    Py_ssize_t limit = PyLong_AsSsize_t(given[2]);
    uint64_t base = PyLong_AsUnsignedLongLong(given[3]);
    Py_ssize_t max_packet = PyNumber_AsSsize_t(given[4], NULL); /* the nearest, if too large */
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (start < 0) {
        PyErr_SetString(PyExc_ValueError, "split_packets() begins before the data");
        return NULL;
    }
    Py_ssize_t end = PyBytes_Size(data);
    while (start < limit && end - start >= HEADER_SIZE) {
        const char *header = PyBytes_AsString(data) + start;
        const unsigned char *fields = (const unsigned char *)header;
        uint64_t number = ((uint64_t)read_uint32(fields) << 32 | read_uint32(fields + 4)) - base;
        uint64_t size = read_uint32(fields + 8);
        if (number == 0 || number > (uint64_t)state->highest ||
            size > (uint64_t)(end - start - HEADER_SIZE) ||
            max_packet < 0 || size > (uint64_t)max_packet) {
            break;
        }
        Py_ssize_t count = state->argument_count[number];
        if (count == UNKNOWN) {
            break;
        }
        const char *body = header + HEADER_SIZE;
        PyObject *arguments = split_arguments(body, body + size, count);
        if (arguments == NULL) {
            if (PyErr_Occurred()) {
                return NULL;
            }
            break;
        }
        if (append_message(messages, (uint32_t)number, arguments) < 0) {
            return NULL;
        }
        start += HEADER_SIZE + (Py_ssize_t)size;
    }
    return PyLong_FromSsize_t(start);
}

/* Declared in _speedups.h. */
PyObject *
write_packet(uint32_t number, PyObject *const *arguments, Py_ssize_t count, Py_ssize_t written)
{
    uint64_t size = 0, taken = 0; /* of the body, and what is written of it */
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!PyBytes_Check(arguments[i])) {
            PyErr_Format(PyExc_TypeError, "an argument of a packet is bytes, not %R",
                         (PyObject *)Py_TYPE(arguments[i]));
            return NULL;
        }
        size += (uint64_t)PyBytes_Size(arguments[i]) + (i < count - 1);
        if (size > UINT32_MAX) {
            PyErr_SetString(PyExc_OverflowError, "a packet has less than 4 GiB");
            return NULL;
        }
        if (i < written) {
            taken = size;
        }
    }
    PyObject *packet = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + (Py_ssize_t)taken);
    if (packet == NULL) {
        return NULL;
    }
    unsigned char *at = (unsigned char *)PyBytes_AsString(packet);
    memcpy(at, "\0RES", 4);
    write_uint32(at + 4, number);
    write_uint32(at + 8, (uint32_t)size);
    at += HEADER_SIZE;
    for (Py_ssize_t i = 0; i < written; i++) {
        size_t length = (size_t)PyBytes_Size(arguments[i]);
        memcpy(at, PyBytes_AsString(arguments[i]), length);
        at += length;
        if (i < count - 1) {
            *at++ = '\0';
        }
    }
    return packet;
}

/* The number of a packet, checked; -1 with an exception. */
static Py_ssize_t
read_number(PyObject *module, PyObject *given)
{
    const State *state = PyModule_GetState(module);
    Py_ssize_t number = PyNumber_AsSsize_t(given, PyExc_IndexError);
    if (number >= 0 && number <= state->highest) {
        return number;
    }
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_IndexError, "unknown packet type");
    }
    return -1;
}

/* framing.response(packet, *arguments) */
static PyObject *
response(PyObject *module, PyObject *const *given, Py_ssize_t given_count)
{
    if (check_count("response", given_count, 1, PY_SSIZE_T_MAX) < 0) {
        return NULL;
    }
    Py_ssize_t number = read_number(module, given[0]), count = given_count - 1;
    return number < 0 ? NULL : write_packet((uint32_t)number, given + 1, count, count);
}

/* framing.response_parts(packet, *arguments) */
static PyObject *
response_parts(PyObject *module, PyObject *const *given, Py_ssize_t given_count)
{
    const State *state = PyModule_GetState(module);
    if (check_count("response_parts", given_count, 2, PY_SSIZE_T_MAX) < 0) {
        return NULL;
    }
    Py_ssize_t number = read_number(module, given[0]), count = given_count - 1;
    PyObject *workload = given[count];
    int large = PyBytes_Check(workload) && PyBytes_Size(workload) >= state->large;
    PyObject *head =
        number < 0 ? NULL : write_packet((uint32_t)number, given + 1, count, count - large);
    if (head == NULL) {
        return NULL;
    }
    PyObject *rest = large ? Py_NewRef(workload) : PyBytes_FromStringAndSize(NULL, 0);
    PyObject *parts = rest == NULL ? NULL : PyTuple_New(2);
    if (parts == NULL) {
        Py_DECREF(head);
        Py_XDECREF(rest);
        return NULL;
    }
    PyTuple_SetItem(parts, 0, head);
    PyTuple_SetItem(parts, 1, rest);
    return parts;
}

/* framing.new_workload(size): without zeros, and as bytes that need no copy. The view has no
   reference to them: who writes there keeps them (LargePacket does).  */
static PyObject *
new_workload(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t given_count)
{
    if (check_count("new_workload", given_count, 1, 1) < 0) {
        return NULL;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(given[0], PyExc_OverflowError);
    if (size < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "a workload has no negative size");
        }
        return NULL;
    }
    PyObject *workload = PyBytes_FromStringAndSize(NULL, size), *view = NULL, *both = NULL;
    if (workload != NULL) {
        view = PyMemoryView_FromMemory(PyBytes_AsString(workload), size, PyBUF_WRITE);
    }
    if (view != NULL) {
        both = PyTuple_Pack(2, workload, view);
    }
    Py_XDECREF(workload);
    Py_XDECREF(view);
    return both;
}

/* Read ARGUMENT_COUNT, a list of numbers with None for packets that do not exist. */
static int
learn_counts(State *state, PyObject *counts)
{
    if (!PyList_CheckExact(counts) || PyList_Size(counts) - 1 > MAX_NUMBER) {
        PyErr_SetString(PyExc_ImportError, "the table of packets is not as expected");
        return -1;
    }
    state->highest = PyList_Size(counts) - 1;
    for (Py_ssize_t number = 0; number <= state->highest; number++) {
        PyObject *count = PyList_GetItem(counts, number);
        state->argument_count[number] = count == Py_None ? UNKNOWN : PyLong_AsSsize_t(count);
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

static int
learn_framing(PyObject *module)
{
    State *state = PyModule_GetState(module);
    PyObject *framing = PyImport_ImportModule("gearman_py.protocol.framing");
    if (framing == NULL) {
        return -1;
    }
    PyObject *counts = PyObject_GetAttrString(framing, "ARGUMENT_COUNT");
    PyObject *large = counts == NULL ? NULL : PyObject_GetAttrString(framing, "LARGE");
    int failed = large == NULL ? -1 : learn_counts(state, counts);
    if (!failed) {
        state->large = PyLong_AsSsize_t(large);
        failed = PyErr_Occurred() ? -1 : 0;
    }
    Py_XDECREF(large);
    Py_XDECREF(counts);
    Py_DECREF(framing);
    return failed;
}

#define TWIN(function) \
    {#function, (PyCFunction)(void (*)(void))function, METH_FASTCALL, "As in framing.py."}

static PyMethodDef functions[] = {
    TWIN(split_packets), TWIN(response), TWIN(response_parts), TWIN(new_workload),
    {"learn_broker", learn_broker, METH_O, "Learn what handle_messages needs; see broker.py."},
    TWIN(handle_messages), {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, learn_framing}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_gearman_speedups",
    .m_doc = "What gearman_py.protocol.framing does for each packet, in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__gearman_speedups(void)
{
    return PyModuleDef_Init(&definition);
}
