// Python 3.11 embedded: the interpreter is in libpython3.11.so, this program is only its main.
#include <Python.h>

int main(int argc, char **argv) {
    return Py_BytesMain(argc, argv);
}
