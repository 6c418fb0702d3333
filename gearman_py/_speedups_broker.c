/* The accelerator: what the broker does for each ordinary job, in C.

   Each function is the twin of the Python function that its comment names, over the same objects,
   whose attributes it reads and writes at the offsets of their slots. What is not ordinary (a
   durable queue, limits and pauses, a unique to be joined, time limits, adopted jobs) is DECLINED
   before anything is changed, and done by the handler in Python: that defines the rules.
   tests/accelerator/test_broker.py compares both; tests/broker/test_mirrored.py fails if Python's
   side changes.  */

#include "_speedups.h"
#include <string.h>

enum { FAILED = -1, DONE, DECLINED };
enum { HIGH, NORMAL, LOW }; /* priorities */
enum { /* packets */
    PRE_SLEEP = 4, SUBMIT_JOB = 7, JOB_CREATED = 8, GRAB_JOB = 9, JOB_ASSIGN = 11,
    WORK_COMPLETE = 13, SUBMIT_JOB_BG = 18, SUBMIT_JOB_HIGH = 21, GRAB_JOB_UNIQ = 30,
    JOB_ASSIGN_UNIQ = 31, SUBMIT_JOB_HIGH_BG = 32, SUBMIT_JOB_LOW = 33, SUBMIT_JOB_LOW_BG = 34,
    GRAB_JOB_ALL = 39,
};

/* The classes by the names that broker.py gives them, and the slots that are used here. */
#define CLASSES(X) X(job) X(function) X(peer) X(queues) X(table) X(counts) X(totals)
#define SLOTS(X)                                                                                 \
    X(job, background) X(job, clients) X(job, function) X(job, number) X(job, priority)          \
    X(job, queued) X(job, retries) X(job, since) X(job, unique) X(job, worker) X(job, workload)  \
    X(function, counts) X(function, limits) X(function, loaded) X(function, name)                \
    X(function, plain) X(function, queues) X(function, running) X(function, sleepers)            \
    X(function, waiting) X(function, workers)                                                    \
    X(peer, abilities) X(peer, absent) X(peer, max_owed) X(peer, on_dirty) X(peer, outbox)       \
    X(peer, owed) X(peer, retries) X(peer, running) X(peer, sleeping) X(peer, submissions)       \
    X(peer, turns) X(peer, waiting) X(peer, woken)                                               \
    X(queues, _function_first) X(queues, _leaving) X(queues, _number) X(queues, _prefix)         \
    X(queues, _rotate) X(queues, _time_limits) X(queues, _unserved) X(queues, _wakeup)           \
    X(queues, choosy) X(queues, closed) X(queues, counts) X(queues, durable) X(queues, full)     \
    X(queues, functions) X(queues, jobs) X(queues, lease) X(queues, loaded) X(queues, next_event)                     \
    X(queues, progress) X(queues, results) X(queues, turn) X(queues, uniques)                    \
    X(table, _count) X(table, _pages)                                                            \
    X(counts, accepted) X(counts, runs) X(counts, waits)                                         \
    X(totals, accelerated_packets) X(totals, empty_grabs) X(totals, wakeups)
#define NUMBERS(X)                                                                               \
    X(BITS) X(FEW) X(LARGE) X(MAX_ARGUMENT) X(MAX_SUBMITTED) X(MAX_UNIQUE)
#define OBJECTS(X) X(EMPTY) X(HANDLERS) X(NOOP) X(NO_JOB) X(PURE) X(WAKE_AGAIN)
#define STRINGS(X) X(append) X(clear) X(now) X(popleft) X(queues) X(wake)

#define CLASS(name) name##_class,
#define SLOT_NUMBER(class, slot) class##_##slot,
#define NUMBER(name) name,
#define OBJECT(name) *name,
#define STRING(name) *name##_name,
enum { CLASSES(CLASS) CLASS_COUNT };
enum { SLOTS(SLOT_NUMBER) SLOT_COUNT };
static PyTypeObject *types[CLASS_COUNT];
static Py_ssize_t offsets[SLOT_COUNT];
static Py_ssize_t NUMBERS(NUMBER) page_size; /* of the table, in jobs */
static PyObject OBJECTS(OBJECT) STRINGS(STRING) *zero, *one;

#define SLOT(object, slot) (*(PyObject **)((char *)(object) + offsets[slot]))
#define IS(object, class) (Py_TYPE(object) == types[class##_class])

/* What one call of handle_messages is about; ``time`` is ``now`` as a number. Jobs submitted to the
   same function in succession are counted here until `settle`. */
typedef struct {
    PyObject *queues, *peer, *now;
    double time;
    uint64_t *packets;
    PyObject *function, *submissions; /* Peer.submissions of it */
    Py_ssize_t submitted;
} Turn;

/* Set a slot to ``value``, whose reference is taken over; it may be NULL with an exception. */
static int
set(PyObject *object, int slot, PyObject *value)
{
    if (value == NULL) {
        return FAILED;
    }
    PyObject *old = SLOT(object, slot);
    SLOT(object, slot) = value;
    Py_XDECREF(old);
    return DONE;
}

static PyObject *
add_numbers(PyObject *number, Py_ssize_t other)
{
    Py_ssize_t value = PyLong_AsSsize_t(number);
    return value == -1 && PyErr_Occurred() ? NULL : PyLong_FromSsize_t(value + other);
}

static int
add(PyObject *object, int slot, Py_ssize_t number)
{
    return set(object, slot, add_numbers(SLOT(object, slot), number));
}

static int
add_item(PyObject *list, Py_ssize_t place, Py_ssize_t number)
{
    PyObject *sum = add_numbers(PyList_GetItem(list, place), number);
    return sum == NULL ? FAILED : PyList_SetItem(list, place, sum);
}

static int
discard_key(PyObject *dict, PyObject *key)
{
    int found = PyDict_Contains(dict, key);
    return found > 0 ? PyDict_DelItem(dict, key) : found;
}

static int
append_seconds(PyObject *durations, double seconds)
{
    PyObject *number = PyFloat_FromDouble(seconds);
    int failed = number == NULL ? FAILED : PyList_Append(durations, number);
    Py_XDECREF(number);
    return failed;
}

/* The end of a call: its result is not needed. */
static int
ended(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? FAILED : DONE;
}

/* Call a method with one argument, or with none, which is NULL. */
static int
call_method(PyObject *object, PyObject *name, PyObject *argument)
{
    PyObject *given[] = {object, argument};
    return ended(PyObject_VectorcallMethod(name, given, argument == NULL ? 1 : 2, NULL));
}

static int
is_triple(PyObject *list)
{
    return PyList_CheckExact(list) && PyList_Size(list) == LOW + 1;
}

/* Whether all jobs of a function may be given out. */
static int
is_ordinary(PyObject *function)
{
    return IS(function, function) && is_triple(SLOT(function, function_queues)) &&
           is_triple(SLOT(function, function_waiting)) &&
           is_triple(SLOT(function, function_limits)) &&
           IS(SLOT(function, function_counts), counts) &&
           SLOT(function, function_plain) == Py_True;
}

/* The number of a job that is of an ordinary function and this server; else -1. */
static Py_ssize_t
ordinary_number(PyObject *job)
{
    if (!IS(job, job) || !is_ordinary(SLOT(job, job_function)) ||
        !PyBytes_CheckExact(SLOT(job, job_unique)) || !PyBytes_CheckExact(SLOT(job, job_workload)) ||
        SLOT(job, job_since) == NULL || !PyFloat_CheckExact(SLOT(job, job_since)) ||
        !PyTuple_CheckExact(SLOT(job, job_clients))) {
        return -1;
    }
    int overflow;
    return PyLong_AsLongAndOverflow(SLOT(job, job_number), &overflow);
}

/* Outbox.send; ``workload`` may be NULL */
static int
send_packet(PyObject *peer, PyObject *packet, PyObject *workload)
{
    Py_ssize_t size = PyBytes_Size(packet);
    if (SLOT(peer, peer_owed) == zero &&
        ended(PyObject_Vectorcall(SLOT(peer, peer_on_dirty), &peer, 1, NULL)) < 0) {
        return FAILED;
    }
    if (PyList_Append(SLOT(peer, peer_outbox), packet) < 0) {
        return FAILED;
    }
    if (workload != NULL) {
        size += PyBytes_Size(workload);
        if (PyList_Append(SLOT(peer, peer_outbox), workload) < 0) {
            return FAILED;
        }
    }
    return add(peer, peer_owed, size);
}

/* Add the submitted jobs to Python's counts, before Python reads or changes these. */
static int
settle(Turn *turn)
{
    PyObject *function = turn->function;
    Py_ssize_t submitted = turn->submitted;
    turn->function = NULL;
    turn->submitted = 0;
    int failed =
        submitted && (add_item(turn->submissions, 0, submitted) < 0 ||
                      add(SLOT(function, function_counts), counts_accepted, submitted) < 0);
    return failed ? FAILED : DONE;
}

/* What clients.accept counts, for another function than that of the last submission */
static int
find_submissions(Turn *turn, PyObject *function)
{
    PyObject *all = SLOT(turn->peer, peer_submissions);
    PyObject *submissions = PyDict_GetItemWithError(all, function);
    if (submissions == NULL && !PyErr_Occurred() && PyDict_Size(all) >= MAX_SUBMITTED) {
        return DECLINED;
    }
    if (submissions == NULL && !PyErr_Occurred() && (submissions = PyList_New(1)) != NULL) {
        PyList_SetItem(submissions, 0, Py_NewRef(zero));
        int failed = PyDict_SetItem(all, function, submissions);
        Py_DECREF(submissions);
        submissions = failed ? NULL : submissions;
    }
    if (submissions == NULL || settle(turn) < 0) {
        return FAILED;
    }
    turn->function = function;
    turn->submissions = submissions;
    return DONE;
}

/* Queues.handle */
static PyObject *
make_handle(PyObject *queues, Py_ssize_t number)
{
    PyObject *prefix = SLOT(queues, queues__prefix);
    Py_ssize_t size = PyBytes_Size(prefix);
    char digits[20], *end = digits + sizeof digits, *first = end;
    do {
        *--first = (char)('0' + number % 10);
    } while (number /= 10);
    PyObject *handle = PyBytes_FromStringAndSize(NULL, size + (end - first));
    if (handle != NULL) {
        memcpy(PyBytes_AsString(handle), PyBytes_AsString(prefix), (size_t)size);
        memcpy(PyBytes_AsString(handle) + size, first, (size_t)(end - first));
    }
    return handle;
}

/* JobTable.add, and JobTable.remove if ``job`` is NULL */
static int
set_in_table(PyObject *table, Py_ssize_t number, PyObject *job)
{
    PyObject *key = PyLong_FromSsize_t(number >> BITS), *pages = SLOT(table, table__pages);
    PyObject *page = key == NULL ? NULL : PyDict_GetItemWithError(pages, key);
    if (page == NULL && !PyErr_Occurred() && (page = PyList_New(page_size + 1)) != NULL) {
        for (Py_ssize_t i = 0; i <= page_size; i++) {
            PyList_SetItem(page, i, Py_NewRef(i < page_size ? Py_None : zero));
        }
        int failed = PyDict_SetItem(pages, key, page);
        Py_DECREF(page);
        page = failed ? NULL : page;
    }
    int change = job == NULL ? -1 : 1;
    int failed =
        page == NULL ||
        PyList_SetItem(page, number & (page_size - 1), Py_NewRef(job == NULL ? Py_None : job)) < 0 ||
        add_item(page, page_size, change) < 0 || add(table, table__count, change) < 0 ||
        (PyList_GetItem(page, page_size) == zero && PyDict_DelItem(pages, key) < 0);
    Py_XDECREF(key);
    return failed ? FAILED : DONE;
}

/* Functions.awake, for a worker of at most FEW functions */
static int
awake(PyObject *worker)
{
    PyObject *function;
    Py_ssize_t place = 0;
    set(worker, peer_woken, Py_NewRef(Py_False));
    if (SLOT(worker, peer_sleeping) == Py_False) {
        return DONE;
    }
    set(worker, peer_sleeping, Py_NewRef(Py_False));
    while (PyDict_Next(SLOT(worker, peer_turns), &place, &function, NULL)) {
        if (discard_key(SLOT(function, function_sleepers), worker) < 0 ||
            PyDict_SetItem(SLOT(worker, peer_absent), function, Py_None) < 0) {
            return FAILED;
        }
    }
    return DONE;
}

/* Functions.wake; what is unusual is done by it */
static int
wake(const Turn *turn, PyObject *function)
{
    PyObject *queues = turn->queues, *unserved = SLOT(queues, queues__unserved);
    PyObject *worker, *sleepers = SLOT(function, function_sleepers);
    Py_ssize_t place = 0;
    if (!PyDict_Next(sleepers, &place, &worker, NULL)) {
        return DONE;
    }
    if (SLOT(queues, queues_choosy) != Py_False || SLOT(queues, queues__wakeup) != one ||
        PyObject_Size(SLOT(queues, queues__leaving)) != 0 ||
        SLOT(worker, peer_sleeping) != Py_True ||
        PyDict_Size(SLOT(worker, peer_turns)) > FEW) {
        PyObject *given[] = {queues, function, turn->now};
        return ended(PyObject_VectorcallMethod(wake_name, given, 3, NULL));
    }
    Py_INCREF(worker);
    int failed = awake(worker);
    set(worker, peer_woken, Py_NewRef(Py_True));
    failed = failed || discard_key(sleepers, worker) < 0 ||
             PyDict_SetItem(SLOT(worker, peer_absent), function, Py_None) < 0 ||
             add(SLOT(queues, queues_counts), totals_wakeups, 1) < 0 ||
             send_packet(worker, NOOP, NULL) < 0;
    Py_DECREF(worker);
    int known = failed ? FAILED : PyDict_Contains(unserved, function);
    if (known) {
        return known < 0 ? FAILED : DONE;
    }
    double soon = turn->time + PyFloat_AsDouble(WAKE_AGAIN);
    if (PyDict_SetItem(unserved, function, turn->now) < 0) {
        return FAILED;
    }
    return PyFloat_AsDouble(SLOT(queues, queues_next_event)) > soon
               ? set(queues, queues_next_event, PyFloat_FromDouble(soon))
               : DONE;
}

/* Functions.sleep, for a worker that is not woken at once */
static int
pre_sleep(Turn *turn, PyObject *const *Py_UNUSED(arguments), int Py_UNUSED(_), int Py_UNUSED(__))
{
    PyObject *function, *peer = turn->peer, *queues = turn->queues;
    Py_ssize_t place = 0;
    if (SLOT(queues, queues_choosy) != Py_False || PySet_Size(SLOT(queues, queues_loaded)) != 0) {
        return DECLINED;
    }
    set(peer, peer_woken, Py_NewRef(Py_False));
    set(peer, peer_sleeping, Py_NewRef(Py_True));
    while (PyDict_Next(SLOT(peer, peer_absent), &place, &function, NULL)) {
        if (PyDict_SetItem(SLOT(function, function_sleepers), peer, Py_None) < 0) {
            return FAILED;
        }
    }
    PyDict_Clear(SLOT(peer, peer_absent));
    return DONE;
}

/* BrokerJob(...), and what Queues.enter sets */
static PyObject *
new_job(const Turn *turn, PyObject *function, PyObject *const *arguments, int priority,
        int background)
{
    PyObject *job = PyType_GenericAlloc(types[job_class], 0);
    if (job != NULL) {
        SLOT(job, job_clients) =
            background ? PyTuple_New(0) : PyTuple_Pack(1, turn->peer);
        SLOT(job, job_priority) = PyLong_FromLong(priority);
        SLOT(job, job_background) = PyBool_FromLong(background);
        SLOT(job, job_function) = Py_NewRef(function);
        SLOT(job, job_unique) = Py_NewRef(arguments[1]);
        SLOT(job, job_workload) = Py_NewRef(arguments[2]);
        SLOT(job, job_number) = Py_NewRef(SLOT(turn->queues, queues__number));
        SLOT(job, job_since) = Py_NewRef(turn->now);
        SLOT(job, job_retries) = Py_NewRef(zero);
        SLOT(job, job_worker) = Py_NewRef(Py_None);
        SLOT(job, job_queued) = Py_NewRef(Py_True);
        if (SLOT(job, job_clients) == NULL) {
            Py_DECREF(job);
            job = NULL;
        }
    }
    return job;
}

/* clients.accept for a new job: Queues.enter, _acknowledge_job, Function.push */
static int
submit(Turn *turn, PyObject *const *arguments, int priority, int background)
{
    PyObject *queues = turn->queues, *peer = turn->peer;
    PyObject *unique = arguments[1], *uniques = SLOT(queues, queues_uniques);
    Py_ssize_t size = PyBytes_Size(unique);
    PyObject *function = PyDict_GetItemWithError(SLOT(queues, queues_functions), arguments[0]);
    if (function == NULL || !is_ordinary(function)) {
        return PyErr_Occurred() ? FAILED : DECLINED;
    }
    PyObject *queue = PyList_GetItem(SLOT(function, function_queues), priority);
    Py_ssize_t number = PyLong_AsSsize_t(SLOT(queues, queues__number));
    if (PyBytes_Size(arguments[0]) > MAX_ARGUMENT || size > MAX_UNIQUE || number < 0 ||
        (size == 1 && *PyBytes_AsString(unique) == '-') || queue == EMPTY ||
        SLOT(queues, queues_full) != Py_False || SLOT(queues, queues_closed) != Py_False ||
        PyList_GetItem(SLOT(function, function_limits), priority) != zero) {
        return PyErr_Occurred() ? FAILED : DECLINED;
    }
    int joins = size ? PyDict_Contains(uniques, unique) : 0;
    if (joins) {
        return joins < 0 ? FAILED : DECLINED;
    }
    int outcome = function == turn->function ? DONE : find_submissions(turn, function);
    if (outcome != DONE) {
        return outcome;
    }
    PyObject *handle = make_handle(queues, number), *created = NULL, *job = NULL;
    if (handle != NULL && (created = write_packet(JOB_CREATED, &handle, 1, 1)) != NULL) {
        job = new_job(turn, function, arguments, priority, background);
    }
    int failed =
        job == NULL || set_in_table(SLOT(queues, queues_jobs), number, job) < 0 ||
        add(queues, queues__number, 1) < 0 || (size && PyDict_SetItem(uniques, unique, job) < 0) ||
        (!background && PySet_Add(SLOT(peer, peer_waiting), job) < 0) ||
        send_packet(peer, created, NULL) < 0 ||
        (PyObject_Size(queue) == 0 && PySet_Add(SLOT(function, function_loaded), function) < 0) ||
        add_item(SLOT(function, function_waiting), priority, 1) < 0 ||
        call_method(queue, append_name, job) < 0;
    Py_XDECREF(handle);
    Py_XDECREF(created);
    Py_XDECREF(job);
    turn->submitted++;
    return failed ? FAILED : wake(turn, function);
}

/* Queues._by_priority: the function that is next, or NULL, and the priority of its job */
static int
choose_function(const Turn *turn, PyObject **best, int *priority)
{
    PyObject *function, *number;
    Py_ssize_t place = 0, first_turn = 0;
    while (PyDict_Next(SLOT(turn->peer, peer_turns), &place, &function, &number)) {
        if (!is_ordinary(function)) {
            return DECLINED;
        }
        PyObject *waiting = SLOT(function, function_waiting);
        Py_ssize_t its_turn = PyLong_AsSsize_t(number);
        int first = HIGH;
        while (first <= LOW && PyList_GetItem(waiting, first) == zero) {
            first++;
        }
        if (first < *priority || (*best && first == *priority && its_turn < first_turn)) {
            *best = function;
            *priority = first;
            first_turn = its_turn;
        }
    }
    return PyErr_Occurred() ? FAILED : DONE;
}

/* Function.pop of the first job of a queue */
static int
pop_job(PyObject *function, int priority, PyObject *job)
{
    PyObject *queues = SLOT(function, function_queues), *waiting = SLOT(function, function_waiting);
    set(job, job_queued, Py_NewRef(Py_False));
    if (call_method(PyList_GetItem(queues, priority), popleft_name, NULL) < 0 ||
        add_item(waiting, priority, -1) < 0) {
        return FAILED;
    }
    for (int each = HIGH; each <= LOW; each++) {
        if (PyList_GetItem(waiting, each) != zero) {
            return DONE;
        }
    }
    for (int each = HIGH; each <= LOW; each++) {
        PyObject *queue = PyList_GetItem(queues, each);
        if (PyObject_Size(queue) != 0 && call_method(queue, clear_name, NULL) < 0) {
            return FAILED;
        }
    }
    return PySet_Discard(SLOT(function, function_loaded), function) < 0 ? FAILED : DONE;
}

/* workers._handle_grab and Queues.take, of a job that was chosen */
static int
assign(const Turn *turn, PyObject *job, int priority, PyObject *handle, int unique)
{
    PyObject *queues = turn->queues, *peer = turn->peer, *turns = SLOT(peer, peer_turns);
    PyObject *function = SLOT(job, job_function), *workload = SLOT(job, job_workload);
    PyObject *facts[4] = {handle, SLOT(function, function_name), SLOT(job, job_unique)};
    int large = PyBytes_Size(workload) >= LARGE;
    facts[2 + unique] = workload;
    PyObject *packet = write_packet(unique ? JOB_ASSIGN_UNIQ : JOB_ASSIGN, facts, 3 + unique,
                                    3 + unique - large);
    double waited = turn->time - PyFloat_AsDouble(SLOT(job, job_since));
    int failed = packet == NULL || awake(peer) < 0 || pop_job(function, priority, job) < 0;
    if (!failed && SLOT(queues, queues__rotate) == Py_True && PyDict_Size(turns) > 1) {
        failed = add(queues, queues_turn, 1) < 0 ||
                 PyDict_SetItem(turns, function, SLOT(queues, queues_turn)) < 0;
    }
    if (!failed) {
        set(job, job_since, Py_NewRef(turn->now));
        set(job, job_worker, Py_NewRef(peer));
        failed = append_seconds(SLOT(SLOT(function, function_counts), counts_waits), waited) < 0 ||
                 add(function, function_running, 1) < 0 ||
                 PyDict_SetItem(SLOT(peer, peer_running), handle, job) < 0 ||
                 send_packet(peer, packet, large ? workload : NULL) < 0;
    }
    Py_XDECREF(packet);
    return failed ? FAILED : DONE;
}

/* workers._handle_grab */
static int
grab(Turn *turn, PyObject *const *Py_UNUSED(arguments), int unique, int Py_UNUSED(_))
{
    PyObject *queues = turn->queues, *peer = turn->peer, *function = NULL;
    int priority = LOW + 1, outcome = DONE;
    if (SLOT(queues, queues_choosy) != Py_False || SLOT(peer, peer_retries) != Py_False ||
        SLOT(queues, queues__function_first) != Py_False ||
        PyDict_Size(SLOT(peer, peer_turns)) > FEW) {
        return DECLINED;
    }
    if (PySet_Size(SLOT(queues, queues_loaded)) > 0) {
        outcome = choose_function(turn, &function, &priority);
    }
    if (outcome != DONE) {
        return outcome;
    }
    if (function == NULL) {
        int failed = awake(peer) < 0 || add(SLOT(queues, queues_counts), totals_empty_grabs, 1) < 0;
        return failed ? FAILED : send_packet(peer, NO_JOB, NULL);
    }
    PyObject *queue = PyList_GetItem(SLOT(function, function_queues), priority);
    PyObject *job = PyObject_Size(queue) > 0 ? PySequence_GetItem(queue, 0) : NULL;
    PyObject *limit = PyDict_GetItemWithError(SLOT(peer, peer_abilities), function);
    if (job == NULL) {
        return PyErr_Occurred() ? FAILED : DECLINED;
    }
    outcome = DECLINED;
    Py_ssize_t number = ordinary_number(job);
    if (limit == Py_None && number >= 0 && SLOT(job, job_queued) == Py_True) {
        PyObject *handle = make_handle(queues, number);
        outcome = handle == NULL ? FAILED : assign(turn, job, priority, handle, unique);
        Py_XDECREF(handle);
    }
    Py_DECREF(job);
    return outcome;
}

/* Queues.erase, and what Queues.finish does before, of a job whose worker has ended it */
static int
finish(const Turn *turn, PyObject *job, Py_ssize_t number, PyObject *handle)
{
    PyObject *queues = turn->queues, *function = SLOT(job, job_function);
    PyObject *clients = SLOT(job, job_clients);
    double seconds = turn->time - PyFloat_AsDouble(SLOT(job, job_since));
    if (PyDict_DelItem(SLOT(turn->peer, peer_running), handle) < 0 ||
        add(function, function_running, -1) < 0 ||
        append_seconds(SLOT(SLOT(function, function_counts), counts_runs), seconds) < 0 ||
        set(job, job_worker, Py_NewRef(Py_None)) < 0 ||
        set_in_table(SLOT(queues, queues_jobs), number, NULL) < 0 ||
        (PyBytes_Size(SLOT(job, job_unique)) &&
         PyDict_DelItem(SLOT(queues, queues_uniques), SLOT(job, job_unique)) < 0)) {
        return FAILED;
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(clients); i++) {
        if (PySet_Discard(SLOT(PyTuple_GetItem(clients, i), peer_waiting), job) < 0) {
            return FAILED;
        }
    }
    return DONE;
}

/* workers._work_complete: Queues.finish, Queues.erase, Rules.tell */
static int
work_complete(Turn *turn, PyObject *const *arguments, int Py_UNUSED(_), int Py_UNUSED(__))
{
    PyObject *queues = turn->queues, *handle = arguments[0], *workload = arguments[1];
    PyObject *job = PyDict_GetItemWithError(SLOT(turn->peer, peer_running), handle);
    Py_ssize_t number = job == NULL ? -1 : ordinary_number(job);
    if (number < 0) {
        return PyErr_Occurred() ? FAILED : DECLINED;
    }
    if (SLOT(queues, queues_results) != Py_None && SLOT(job, job_background) == Py_True) {
        return DECLINED; /* its result may be kept */
    }
    PyObject *function = SLOT(job, job_function), *unique = SLOT(job, job_unique);
    if (PyDict_Size(SLOT(function, function_workers)) == 0) {
        return DECLINED;
    }
    int limited = PyDict_Contains(SLOT(queues, queues__time_limits), job);
    int told = limited ? limited : PyDict_Contains(SLOT(queues, queues_progress), job);
    if (told) {
        return told < 0 ? FAILED : DECLINED;
    }
    if (PyBytes_Size(unique) &&
        PyDict_GetItemWithError(SLOT(queues, queues_uniques), unique) != job) {
        return PyErr_Occurred() ? FAILED : DECLINED;
    }
    int large = PyBytes_Size(workload) >= LARGE;
    PyObject *clients = SLOT(job, job_clients), *packet = NULL;
    Py_ssize_t count = PyTuple_Size(clients);
    if (count && (packet = write_packet(WORK_COMPLETE, arguments, 2, 2 - large)) == NULL) {
        return FAILED;
    }
    Py_INCREF(job);
    int failed = finish(turn, job, number, handle);
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        failed = send_packet(PyTuple_GetItem(clients, i), packet, large ? workload : NULL);
    }
    Py_DECREF(job);
    Py_XDECREF(packet);
    return failed ? FAILED : DONE;
}

#define MOST_ARGUMENTS 3
/* The twins by packet, each with what it is called with. */
static const struct {
    Py_ssize_t count; /* of arguments */
    int (*handle)(Turn *, PyObject *const *, int, int);
    int first, second;
} twins[] = {
    [SUBMIT_JOB] = {3, submit, NORMAL, 0},
    [SUBMIT_JOB_BG] = {3, submit, NORMAL, 1},
    [SUBMIT_JOB_HIGH] = {3, submit, HIGH, 0},
    [SUBMIT_JOB_HIGH_BG] = {3, submit, HIGH, 1},
    [SUBMIT_JOB_LOW] = {3, submit, LOW, 0},
    [SUBMIT_JOB_LOW_BG] = {3, submit, LOW, 1},
    [GRAB_JOB] = {0, grab, 0, 0},
    [GRAB_JOB_UNIQ] = {0, grab, 1, 0},
    [GRAB_JOB_ALL] = {0, grab, 1, 0}, /* a job with a reducer is not ordinary */
    [WORK_COMPLETE] = {2, work_complete, 0, 0},
    [PRE_SLEEP] = {0, pre_sleep, 0, 0},
};

/* Whether a twin may look at a message; its arguments are then in ``items``. */
static int
has_twin(const Turn *turn, Py_ssize_t packet, PyObject *arguments, PyObject **items)
{
    if (packet < 0 || packet >= (Py_ssize_t)(sizeof twins / sizeof *twins) ||
        twins[packet].handle == NULL || !PyList_CheckExact(arguments) ||
        PyList_Size(arguments) != twins[packet].count ||
        SLOT(turn->queues, queues_durable) != Py_False ||
        PyFloat_AsDouble(SLOT(turn->queues, queues_lease)) != Py_HUGE_VAL) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < twins[packet].count; i++) {
        items[i] = PyList_GetItem(arguments, i);
        if (!PyBytes_CheckExact(items[i])) {
            return 0;
        }
    }
    return 1;
}

static int
handle_message(Turn *turn, PyObject *broker, PyObject *message)
{
    if (!PyTuple_CheckExact(message) || PyTuple_Size(message) != 2) {
        PyErr_SetString(PyExc_TypeError, "a message is a number and arguments");
        return FAILED;
    }
    Py_ssize_t packet = PyLong_AsSsize_t(PyTuple_GetItem(message, 0));
    PyObject *arguments = PyTuple_GetItem(message, 1);
    packet += packet < 0 ? PyList_Size(HANDLERS) : 0;
    PyObject *handler = PyErr_Occurred() ? NULL : PyList_GetItem(HANDLERS, packet);
    if (handler == NULL) {
        return FAILED;
    }
    turn->packets[packet]++;
    PyObject *items[MOST_ARGUMENTS];
    int outcome = DECLINED;
    if (has_twin(turn, packet, arguments, items)) {
        outcome = twins[packet].handle(turn, items, twins[packet].first, twins[packet].second);
    }
    if (outcome == DECLINED) {
        PyObject *given[] = {broker, turn->peer, arguments};
        outcome = settle(turn) < 0 ? FAILED : ended(PyObject_Vectorcall(handler, given, 3, NULL));
    }
    return outcome;
}

/* Whether the broker is of the classes that were learned. */
static int
is_as_expected(const Turn *turn)
{
    return IS(turn->queues, queues) && IS(turn->peer, peer) && PyFloat_CheckExact(turn->now) &&
           IS(SLOT(turn->queues, queues_jobs), table) &&
           IS(SLOT(turn->queues, queues_counts), totals) &&
           PyBytes_CheckExact(SLOT(turn->queues, queues__prefix));
}

/* Where the packets of a broker are counted, by number. */
static uint64_t *
find_packets(const Turn *turn)
{
    PyObject *packets = SLOT(SLOT(turn->queues, queues_counts), totals_accelerated_packets);
    Py_ssize_t size = PyList_Size(HANDLERS) * (Py_ssize_t)sizeof(uint64_t);
    if (!PyByteArray_CheckExact(packets) || PyByteArray_Size(packets) != size) {
        PyErr_SetString(PyExc_TypeError, "accelerated_packets is not a number for each packet");
        return NULL;
    }
    return (uint64_t *)PyByteArray_AsString(packets);
}

/* broker.handle_messages(broker, peer, messages) */
PyObject *
handle_messages(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t given_count)
{
    if (given_count != 3 || !PyList_CheckExact(given[2])) {
        return PyObject_Vectorcall(PURE, given, (size_t)given_count, NULL);
    }
    PyObject *broker = given[0], *peer = given[1], *messages = given[2];
    PyObject *queues = PyObject_GetAttr(broker, queues_name);
    PyObject *now = queues == NULL ? NULL : PyObject_GetAttr(broker, now_name);
    Turn turn = {.queues = queues, .peer = peer, .now = now};
    turn.time = now == NULL ? 0 : PyFloat_AsDouble(now);
    Py_ssize_t done = 0;
    int failed = now == NULL;
    if (!failed && !is_as_expected(&turn)) {
        Py_DECREF(queues);
        Py_DECREF(now);
        return PyObject_Vectorcall(PURE, given, 3, NULL);
    }
    failed = failed || (turn.packets = find_packets(&turn)) == NULL;
    while (!failed && done < PyList_Size(messages)) {
        failed = handle_message(&turn, broker, PyList_GetItem(messages, done++)) < 0;
        Py_ssize_t owed = failed ? 0 : PyLong_AsSsize_t(SLOT(peer, peer_owed));
        if (!failed && owed > PyLong_AsSsize_t(SLOT(peer, peer_max_owed))) {
            break;
        }
    }
    failed = failed || settle(&turn) < 0;
    Py_XDECREF(queues);
    Py_XDECREF(now);
    return failed ? NULL : PyLong_FromSsize_t(done);
}

#define CLASS_NAME(name) #name,
#define SLOT_NAME(class, slot) {class##_class, #slot},
static const char *const class_names[] = {CLASSES(CLASS_NAME)};
static const struct {
    int class;
    const char *name;
} slots[] = {SLOTS(SLOT_NAME)};

/* Set the offset of a slot: it is where an object holds what its slot was set to. */
static int
find_offset(int slot, PyObject *object, PyObject *size)
{
    PyObject *marker = object == NULL || size == NULL ? NULL : PyList_New(0);
    int failed = marker == NULL || PyObject_SetAttrString(object, slots[slot].name, marker) < 0;
    Py_ssize_t last = failed ? 0 : PyLong_AsSsize_t(size) - (Py_ssize_t)sizeof marker;
    offsets[slot] = sizeof *object;
    while (offsets[slot] <= last && SLOT(object, slot) != marker) {
        offsets[slot] += sizeof marker;
    }
    Py_XDECREF(marker);
    return offsets[slot] <= last ? DONE : FAILED;
}

/* Learn a slot; return its name after that of its class. */
static PyObject *
learn_slot(int slot)
{
    int class = slots[slot].class;
    PyObject *size = PyObject_GetAttrString((PyObject *)types[class], "__basicsize__");
    PyObject *object = size == NULL ? NULL : PyType_GenericAlloc(types[class], 0);
    int failed = find_offset(slot, object, size);
    Py_XDECREF(object);
    Py_XDECREF(size);
    if (failed) {
        PyErr_Format(PyExc_ImportError, "%s is not a slot", slots[slot].name);
        return NULL;
    }
    return PyUnicode_FromFormat("%s.%s", class_names[class], slots[slot].name);
}

/* What the macros below do for each name; the reference is kept as long as the process lives. */
static int
learn_fact(PyObject *facts, const char *name, PyObject **place)
{
    *place = PyMapping_GetItemString(facts, name);
    return *place == NULL ? FAILED : DONE;
}

#define LEARN_CLASS(name) || learn_fact(facts, #name, (PyObject **)&types[name##_class])
#define LEARN_OBJECT(name) || learn_fact(facts, #name, &name)
#define LEARN_NUMBER(name) || learn_fact(facts, #name, &found) || \
    ((name = PyNumber_AsSsize_t(found, PyExc_OverflowError)) == -1)
#define LEARN_STRING(name) || (name##_name = PyUnicode_InternFromString(#name)) == NULL

/* Learn from broker.py what handle_messages needs, once; return the slots that it uses. */
PyObject *
learn_broker(PyObject *Py_UNUSED(module), PyObject *facts)
{
    PyObject *found, *names = PyList_New(0);
    zero = PyLong_FromLong(0); /* CPython has one object for each small number */
    one = PyLong_FromLong(1);
    int failed = names == NULL CLASSES(LEARN_CLASS) OBJECTS(LEARN_OBJECT) NUMBERS(LEARN_NUMBER)
        STRINGS(LEARN_STRING);
    page_size = (Py_ssize_t)1 << BITS;
    for (int slot = 0; slot < SLOT_COUNT && !failed; slot++) {
        PyObject *name = learn_slot(slot);
        failed = name == NULL || PyList_Append(names, name) < 0;
        Py_XDECREF(name);
    }
    if (failed) {
        Py_XDECREF(names);
        return NULL;
    }
    return names;
}
