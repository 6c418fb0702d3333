/* What the files of the accelerator share. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* _speedups.c: the bytes of a response up to its first ``written`` arguments; its header is that
   of all ``count``.  */
PyObject *write_packet(uint32_t number, PyObject *const *arguments, Py_ssize_t count,
                       Py_ssize_t written);

/* _speedups_broker.c */
PyObject *learn_broker(PyObject *module, PyObject *facts);
PyObject *handle_messages(PyObject *module, PyObject *const *given, Py_ssize_t given_count);
