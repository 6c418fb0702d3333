/* What the files of the accelerator share. */

#define Py_LIMITED_API 0x030B0000 /* that of 3.11: one build for it and all later Pythons */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* The limited API names these from 3.12 on; 3.11 has them too. */
PyAPI_FUNC(PyObject *)
    PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *names);
PyAPI_FUNC(PyObject *)
    PyObject_VectorcallMethod(PyObject *, PyObject *const *, size_t, PyObject *names);

/* References are counted by the Python that runs this: to the macros of 3.11, no object is
   immortal, and what they count wrongly adds up.  */
#undef Py_INCREF
#undef Py_DECREF
#undef Py_XDECREF
#undef Py_NewRef
#undef Py_CLEAR
#define Py_INCREF(object) Py_IncRef((PyObject *)(object))
#define Py_DECREF(object) Py_DecRef((PyObject *)(object))
#define Py_XDECREF(object) Py_DecRef((PyObject *)(object)) /* which may be NULL */
#define Py_NewRef(object) new_reference(object)

static inline PyObject *
new_reference(PyObject *object)
{
    Py_IncRef(object);
    return object;
}

/* _speedups.c: the bytes of a response up to its first ``written`` arguments; its header is that
   of all ``count``.  */
PyObject *write_packet(uint32_t number, PyObject *const *arguments, Py_ssize_t count,
                       Py_ssize_t written);

/* _speedups_broker.c */
PyObject *learn_broker(PyObject *module, PyObject *facts);
PyObject *handle_messages(PyObject *module, PyObject *const *given, Py_ssize_t given_count);
