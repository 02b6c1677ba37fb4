"""A Flask application whose own functions take most of the time of a request."""

from flask import Flask, render_template_string

app = Flask(__name__)
PAGE = "<ul>{% for name, sum in rows %}<li>{{ name }}: {{ sum }}</li>{% endfor %}</ul>"


@app.route("/")
def page():
    return render_template_string(PAGE, rows=report(20))


def report(count):
    return [(f"row {n}", total(n)) for n in range(count)]


def total(n):
    result = 0
    for i in range(2000):
        result += i * n
    return result
