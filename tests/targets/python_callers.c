// Threads of a C program that call Python again and again, on a thread state that is made and freed
// for each call, between loops of their own. The first thread of each pair ends in the middle of a
// call: its thread state stays, with its frames, on the stack and the TLS base of the second. At the
// end the program says what each chain burned: `CHAIN NANOSECONDS FUNCTION…`, Python's from the root
// to the leaf; none for a chain in C.
//
//     python_callers SECONDS
#include <Python.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define CALLERS 3

static double seconds;
static PyObject *doomed, *roots[CALLERS + 1];

static long long thread_nanos(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

__attribute__((noinline)) static void between_calls(long long nanos) {
    long long end = thread_nanos() + nanos;
    while (thread_nanos() < end) {
    }
}

// Ends the thread that calls it from Python.
static PyObject *die(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    PyEval_SaveThread();
    pthread_exit(NULL);
}

// Burns without the interpreter's lock.
static PyObject *unlocked(PyObject *self, PyObject *nanos) {
    (void)self;
    long long n = PyLong_AsLongLong(nanos);
    PyThreadState *saved = PyEval_SaveThread();
    between_calls(n);
    PyEval_RestoreThread(saved);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"die", die, METH_NOARGS, NULL},
                                {"unlocked", unlocked, METH_O, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "caller", NULL, -1, methods,
                                    NULL, NULL, NULL, NULL};
static PyObject *make_module(void) { return PyModule_Create(&module); }

// How deep in the stack Python is called: the second of a pair deeper than the first.
__attribute__((noinline)) static void call_python(PyObject *function, size_t depth) {
    volatile char *room = __builtin_alloca(depth);
    memset((void *)room, 0, depth);
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallNoArgs(function);
    if (result == NULL) {
        PyErr_Print();
        exit(1);
    }
    Py_DECREF(result);
    PyGILState_Release(state);
    room[0] = 1;
}

static void *doomed_thread(void *none) {
    (void)none;
    call_python(doomed, 1 << 10);
    return NULL;
}

static void *calling_thread(void *number) {
    long n = (long)number;
    char name[16];
    snprintf(name, sizeof name, "caller-%ld", n);
    pthread_setname_np(pthread_self(), name);
    long long end = thread_nanos() + (long long)(seconds * 1e9);
    while (thread_nanos() < end) {
        void *noise = malloc(360 + 16 * (thread_nanos() & 7));
        call_python(roots[n], 64 << 10);
        free(noise);
        between_calls(200000);
    }
    return NULL;
}

static const char *source =
    "import time, caller\n"
    "burned = {}\n"
    "def doomed_leaf(): caller.die()\n"
    "def doomed_root(): doomed_leaf()\n"
    "def define(c, unlocked):\n"
    "    exec(f'''\n"
    "def leaf_{c}():\n"
    "    start = time.thread_time_ns()\n"
    "    if {unlocked}: caller.unlocked(500000)\n"
    "    else:\n"
    "        while time.thread_time_ns() - start < 500000: pass\n"
    "    burned['{c}'] = burned.get('{c}', 0) + time.thread_time_ns() - start\n"
    "def inner_{c}(_=None): leaf_{c}()\n"
    "def root_{c}(): max((1,), key=lambda _: inner_{c}() or 0)\n"
    "''', globals())\n"
    "    return globals()['root_' + c]\n"
    "def say():\n"
    "    for c, n in burned.items():\n"
    "        print(c, n, f'root_{c} root_{c}.<locals>.<lambda> inner_{c} leaf_{c}', flush=True)\n";

int main(int argc, char **argv) {
    seconds = argc > 1 ? atof(argv[1]) : 1;
    PyImport_AppendInittab("caller", make_module);
    Py_Initialize();
    PyRun_SimpleString(source);
    PyObject *space = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *define = PyDict_GetItemString(space, "define");
    doomed = PyDict_GetItemString(space, "doomed_root");
    for (int n = 0; n <= CALLERS; n++) {
        char chain[8];
        snprintf(chain, sizeof chain, "c%d", n);
        // The last one burns without the lock.
        roots[n] = PyObject_CallFunction(define, "si", chain, n == CALLERS);
    }
    PyThreadState *saved = PyEval_SaveThread();
    pthread_t threads[CALLERS + 1];
    for (long n = 0; n <= CALLERS; n++) {
        // Its stack is the next thread's.
        pthread_t first;
        if (n > 0) {
            pthread_create(&first, NULL, doomed_thread, NULL);
            pthread_join(first, NULL);
        }
        pthread_create(&threads[n], NULL, calling_thread, (void *)n);
        if (n > 0 && !pthread_equal(first, threads[n])) {
            fprintf(stderr, "thread %ld has not the stack of the one before it\n", n);
            return 2;
        }
    }
    for (int n = 0; n <= CALLERS; n++) {
        pthread_join(threads[n], NULL);
    }
    PyEval_RestoreThread(saved);
    PyObject_CallNoArgs(PyDict_GetItemString(space, "say"));
    return 0;
}
