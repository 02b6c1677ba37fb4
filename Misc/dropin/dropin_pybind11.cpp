/* An extension module made with pybind11, for program_pybind11.py; compiled
   with EMBED a program that embeds the interpreter with it. */

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <pybind11/eval.h>
#include <pybind11/functional.h>
#include <pybind11/iostream.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#ifdef EMBED
#  include <pybind11/embed.h>
#  include <iostream>
#endif

namespace py = pybind11;

struct own_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Animal {
public:
    explicit Animal(std::string name) : name_(std::move(name)) {}
    virtual ~Animal() = default;
    virtual std::string sound(int times) const { return std::string(times, '?'); }
    virtual int legs() const = 0;
    std::string describe(int times) const
    {
        return name_ + ": " + sound(times) + ", " + std::to_string(legs());
    }

private:
    std::string name_;
};

/* Calls the methods that a class in Python overrides. */
class PythonAnimal : public Animal {
public:
    using Animal::Animal;
    std::string sound(int times) const override
    {
        PYBIND11_OVERRIDE(std::string, Animal, sound, times);
    }
    int legs() const override { PYBIND11_OVERRIDE_PURE(int, Animal, legs, ); }
};

static int
call_in_threads(const std::function<int(int)> &function, int threads)
{
    std::vector<int> results(threads);
    {
        py::gil_scoped_release released;
        std::vector<std::thread> running;
        for (int i = 0; i < threads; i++) {
            running.emplace_back([&, i] {
                for (int n = 0; n < 20; n++) {
                    py::gil_scoped_acquire acquired;
                    results[i] += function(n);
                }
            });
        }
        for (auto &thread : running) {
            thread.join();
        }
    }
    int sum = 0;
    for (int result : results) {
        sum += result;
    }
    return sum;
}

static void
define(py::module_ &m)
{
    py::register_exception<own_error>(m, "OwnError", PyExc_LookupError);
    py::class_<Animal, PythonAnimal, std::shared_ptr<Animal>>(m, "Animal")
        .def(py::init<std::string>())
        .def("sound", &Animal::sound)
        .def("legs", &Animal::legs)
        .def("describe", &Animal::describe);
    m.def("fail", [](int n) -> int {
        if (n == 0) {
            throw own_error("from C++");
        }
        return n;
    });
    m.def("down", [](const py::function &function, int n) {
        return py::cast<int>(function(n - 1)) + 1;
    });
    m.def("catching", [](const py::function &function) -> std::string {
        try {
            function();
        }
        catch (py::error_already_set &error) {
            return std::string(py::str(error.type().attr("__name__"))) + " caught";
        }
        return "nothing";
    });
    m.def("call_in_threads", &call_in_threads);
    m.def("iterate", [](py::iterable values) {
        std::vector<int> result;
        for (py::handle value : values) {
            result.push_back(py::cast<int>(value) * 2);
        }
        return result;
    });
    m.def("numbers", [](std::vector<int> values) {
        auto kept = std::make_shared<std::vector<int>>(std::move(values));
        return py::cpp_function([kept](size_t i) { return kept->at(i); });
    });
    m.def("evaluate", [](const std::string &text, int x) {
        py::dict scope;
        scope["x"] = x;
        return py::eval(text, py::globals(), scope);
    });
}

#ifdef EMBED
PYBIND11_EMBEDDED_MODULE(dropin_pybind11, m)
{
    define(m);
}

/* Runs the file that is its argument, twice: a second interpreter follows. */
int
main(int argc, char **argv)
{
    for (int round = 0; argc > 1 && round < 2; round++) {
        py::scoped_interpreter interpreter;
        try {
            // pybind11's configuration is an isolated one: the variables of Python that
            // switch profiling on have no effect.
            py::exec(R"(
import os, sys
mode = os.environ.get("DROPIN_MODE")
if mode:
    name, _, more = mode.partition("=")
    sys.activate_stack_trampoline(name, **({more: True} if more else {}))
)");
            py::eval_file(argv[1]);
        }
        catch (py::error_already_set &error) {
            std::cout << error.what() << std::endl;
            return 1;
        }
    }
    return argc > 1 ? 0 : 2;
}
#else
PYBIND11_MODULE(dropin_pybind11, m)
{
    define(m);
}
#endif
