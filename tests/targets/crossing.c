// A Python extension module whose functions call back, and that ctypes can load as well.
#include <Python.h>

#define FRAME __attribute__((noinline, noclone, visibility("default")))

// Not a tail call: each of them keeps its frame.
#define KEEP_FRAME() __asm__ volatile("" ::: "memory")

FRAME PyObject *crossing_inner(PyObject *function) {
    PyObject *result = PyObject_CallNoArgs(function);
    KEEP_FRAME();
    return result;
}

FRAME PyObject *crossing_call(PyObject *self, PyObject *function) {
    (void)self;
    PyObject *result = crossing_inner(function);
    KEEP_FRAME();
    return result;
}

// For ctypes: the callback is libffi's.
FRAME int crossing_apply(int (*function)(int), int argument) {
    int result = function(argument);
    KEEP_FRAME();
    return result;
}

FRAME void crossing_spin(long rounds) {
    for (volatile long i = 0; i < rounds; i++)
        ;
}

FRAME PyObject *crossing_burn(PyObject *self, PyObject *rounds) {
    (void)self;
    crossing_spin(PyLong_AsLong(rounds));
    KEEP_FRAME();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"call", crossing_call, METH_O, NULL},
    {"burn", crossing_burn, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "crossing", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_crossing(void) {
    return PyModule_Create(&module);
}
