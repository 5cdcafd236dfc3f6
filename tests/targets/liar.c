// Python, embedded by a program that writes over its structures while it burns CPU time on top of them, and
// says one thing or the other, by its first word:
//
//   liar cycle      a frame is its own caller
//   liar kernel     a frame's code object and its caller are in the kernel
//   liar lengths    a code object's names and line table have lengths of 2^63 and -1
//   liar changing   a code object changes all the time, made by two others
//   liar threads    the list of threads is a ring, and the one that burns is not in it
//
// It says `ready`, and ends when its standard input does. All its functions' names begin with `lie`.
#define Py_BUILD_CORE
#include <Python.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_pystate.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static const char *what;
static volatile int for_ever = 1;
static volatile int sink;

__attribute__((noinline)) static void burn(void) {
    while (for_ever)
        for (int i = 0; i < 300000; i++)
            sink += i;
}

static void *watch_input(void *none) {
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
    return none;
}

static void *copy(void *object, size_t bytes) {
    // More than the object has may follow it: nothing here reads it as more.
    void *made = calloc(1, bytes + 4096);
    memcpy(made, object, bytes);
    return made;
}

static PyCodeObject *lying;
static PyObject *names[2], *tables[2];

static void *change(void *none) {
    for (unsigned n = 0;; n++) {
        PyCodeObject *volatile code = lying;
        code->co_qualname = names[n & 1];
        code->co_linetable = tables[n >> 1 & 1];
        code->co_firstlineno = n;
        code->co_filename = names[n >> 2 & 1];
    }
    return none;
}

// In the interpreter's own file, on a thread that it does not know.
static void *outside(void *none) {
    enum { LEN = 1 << 16 };
    char *text = malloc(LEN);
    memset(text, 'a', LEN);
    text[LEN - 1] = 0;
    while (for_ever)
        sink += PyOS_mystrnicmp(text, text, LEN);
    return none;
}

static PyObject *lie(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    PyThreadState *thread = PyThreadState_Get();
    _PyInterpreterFrame *frame = thread->cframe->current_frame;
    pthread_t other;
    if (strcmp(what, "cycle") == 0) {
        frame->is_entry = 0;
        frame->previous = frame;
    } else if (strcmp(what, "kernel") == 0) {
        _PyInterpreterFrame *caller = frame->previous;
        frame->is_entry = caller->is_entry = 0;
        caller->f_code = (PyCodeObject *)0xffff888000000000;
        caller->previous = (_PyInterpreterFrame *)0xffffffff81000000;
    } else if (strcmp(what, "lengths") == 0) {
        PyCodeObject *code = frame->f_code;
        PyASCIIObject *name = copy(code->co_qualname, sizeof *name + 8);
        PyASCIIObject *file = copy(code->co_filename, sizeof *file + 8);
        PyVarObject *table = copy(code->co_linetable, sizeof(PyBytesObject));
        name->length = (Py_ssize_t)(1ull << 63);
        file->length = -1;
        table->ob_size = (Py_ssize_t)(1ull << 63);
        code->co_qualname = (PyObject *)name;
        code->co_filename = (PyObject *)file;
        code->co_linetable = (PyObject *)table;
    } else if (strcmp(what, "changing") == 0) {
        lying = frame->f_code;
        names[0] = PyUnicode_FromString("lie_a");
        names[1] = PyUnicode_FromString("lie_b");
        tables[0] = lying->co_linetable;
        tables[1] = PyBytes_FromStringAndSize(NULL, 4000);
        pthread_create(&other, NULL, change, NULL);
    } else if (strcmp(what, "threads") == 0) {
        thread->next = thread;
        thread->interp->next = thread->interp;
        pthread_create(&other, NULL, outside, NULL);
        pthread_join(other, NULL);
    }
    burn();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"lie", lie, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "liar", NULL, -1, methods,
                                    NULL, NULL, NULL, NULL};
static PyObject *make_module(void) { return PyModule_Create(&module); }

int main(int argc, char **argv) {
    pthread_t watcher;
    what = argc > 1 ? argv[1] : "";
    pthread_create(&watcher, NULL, watch_input, NULL);
    PyImport_AppendInittab("liar", make_module);
    Py_Initialize();
    if (write(1, "ready\n", 6) != 6)
        return 1;
    return PyRun_SimpleString("import liar\n"
                              "def lie_leaf(): liar.lie()\n"
                              "def lie_middle(): lie_leaf()\n"
                              "def lie_root(): lie_middle()\n"
                              "lie_root()\n");
}
