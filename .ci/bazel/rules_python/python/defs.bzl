"""The Python rules of BUILD, forwarded to the native ones of Bazel 4."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
