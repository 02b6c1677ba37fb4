"""The page of annotate.py in a headless Chromium: switches, jumps, keys, dark colors."""

import json
import os
import re
import struct
import tempfile
import time
import unittest
import zlib

from test.support import os_helper
from test.test_perf import fixtures
from test.test_perf.browser import Browser, find_browser
from test.test_perf.reports import ReportTestCase, below, sample

SOURCE = '''\
"""A program with a name that ends this page: </script><img src=x onerror=alert(1)>"""
import work

def hot(n):
    return sum(range(n))        # line 5

def warm():
    hot(1)                      # line 8
    hot(2)                      # line 9

def main():
    warm()                      # line 12
    work.do("<b>", 'x' * 3)     # line 13
    for i in range(3): pass
%s
main()
''' % ('\n' * 60)
LAST = SOURCE.count('\n')
HOSTILE = '<img src=x onerror=alert(1)>"\';'


def setUpModule():
    fixtures.require_trampoline()


def pixels(path):
    """Return the rows of an 8-bit RGB or RGBA PNG as bytes, and the bytes of a pixel."""
    with open(path, 'rb') as file:
        data = file.read()
    at, packed = 8, b''
    while at < len(data):
        size, kind = struct.unpack('>I4s', data[at:at + 8])
        content = data[at + 8:at + 8 + size]
        if kind == b'IHDR':
            width, height, depth, color = struct.unpack('>IIBB', content[:10])
        elif kind == b'IDAT':
            packed += content
        at += size + 12
    assert depth == 8 and color in (2, 6), (depth, color)
    step = 3 if color == 2 else 4
    raw = zlib.decompress(packed)
    rows, before = [], bytes(width * step)
    for y in range(height):
        begin = y * (width * step + 1)
        kind, row = raw[begin], bytearray(raw[begin + 1:begin + 1 + width * step])
        for i in range(len(row) if kind else 0):
            left = row[i - step] if i >= step else 0
            above = before[i]
            if kind == 1:
                add = left
            elif kind == 2:
                add = above
            elif kind == 3:
                add = (left + above) // 2
            else:
                corner = before[i - step] if i >= step else 0
                guess = left + above - corner
                add = min((left, above, corner), key=lambda value: abs(guess - value))
            row[i] = (row[i] + add) & 255
        rows.append(bytes(row))
        before = row
    return rows, step


class PageTestCase(ReportTestCase):
    """All tests of a class share a browser and a page."""

    command = 'annotate.py'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = os.path.realpath(tempfile.mkdtemp(prefix='test_perf_'))
        cls.addClassCleanup(os_helper.rmtree, cls.shared)
        cls.browser = Browser(find_browser(), cls.shared)
        cls.addClassCleanup(cls.browser.close)

    def open(self, page, text, *arguments):
        """Make a page of samples, open it, and return the browser."""
        path = os.path.join(self.shared, page)
        if text is not None and not os.path.exists(path):
            self.report('-o', path, *arguments, text=text)
        self.browser.messages.clear()
        self.browser.requests.clear()
        self.browser.prefer('light')
        self.browser.size(1400, 900)
        self.browser.open('about:blank')
        self.browser.open('file://' + path)
        self.addCleanup(self.check_quiet, path)
        return self.browser

    def check_quiet(self, path):
        """The page has reported no error and has loaded nothing but itself."""
        self.assertEqual(self.browser.messages, [])
        self.assertEqual({re.sub('#.*', '', url) for url in self.browser.requests}
                         - {'about:blank', 'data:,'}, {'file://' + path})

    def settle(self):
        """Wait until the page is drawn: what is not drawn has no innerText."""
        self.browser.run('new Promise(done => requestAnimationFrame(() => '
                         'requestAnimationFrame(done)))')

    def text(self, selector):
        self.settle()
        return self.browser.run(
            f'(document.querySelector({json.dumps(selector)}) || {{}}).innerText')

    def texts(self, selector):
        self.settle()
        return self.browser.run(
            f'[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)')

    def count(self, selector):
        return self.browser.run(
            f'document.querySelectorAll({json.dumps(selector)}).length')

    def row(self, number):
        """Return own and total of a line, and its source."""
        own, total, code = self.browser.run(
            f'[...document.querySelector(".row[data-line=\'{number}\']").children]'
            '.filter(e => !e.matches(".ln")).map(e => e.textContent)')
        return own, total, code

    def here(self):
        """Return the number of the line that the page points to, if it is in view."""
        return self.browser.run("""(() => {
            const row = document.querySelector('.row.here');
            if (!row) return null;
            const r = row.getBoundingClientRect(), m = document.querySelector('main').getBoundingClientRect();
            return r.top >= m.top && r.bottom <= m.bottom ? +row.dataset.line : null; })()""")

    def assert_here(self, number, seconds=20):
        """The page points to this line, now or soon."""
        end = time.monotonic() + seconds
        while self.here() != number and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.here(), number)

    def pressed(self, *names):
        return [self.browser.run(f'document.getElementById("{name}").ariaPressed') == 'true'
                for name in names]


class PageTests(PageTestCase):
    """A page of two processes, one with two threads, from samples written by hand."""

    def setUp(self):
        super().setUp()
        shared = self.shared
        self.script = os.path.join(shared, 'main.py')
        self.work = os.path.join(shared, 'site-packages/work.py')
        self.stdlib = os.path.join(shared, 'lib/python3.11/json/decoder.py')
        for path, source in ((self.script, SOURCE), (self.work, 'def do():\n    pass\n'),
                             (self.stdlib, 'def decode():\n    pass\n')):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'w') as file:
                file.write(source)
            os.utime(path, (1e9, 1e9))
        main, warm, hot = (
            f'py::{name}:{self.script}:'for name in ('main', 'warm', 'hot'))
        module = f'py::<module>:{self.script}:{LAST}'
        do, decode = f'py::do:{self.work}:2', f'py::decode:{self.stdlib}:2'
        libz = 'deflate (/lib/libz.so.1.2.13)'
        self.samples = (
            sample(libz, 'zlib_compress (/lib/zlib.cpython-311.so)',
                   *below(hot + '5', warm + '8', main + '12', module)) * 40
            + sample('vfs_read ([kernel.kallsyms])', 'os_read',
                     *below(hot + '5', warm + '9', main + '12', module)) * 20
            + sample(*below(do, main + '13', module), tid=8, comm='worker') * 20
            + sample('long_add', *below(decode, do, main + '13', module), tid=8) * 10
            + sample(*below(warm + '8', f'py::{HOSTILE}:<string>:1'), pid=9, tid=9,
                     comm=HOSTILE[:15]) * 10
            + sample('main', '_start') * 25)

    def open_small(self, *arguments):
        return self.open('small.html', self.samples, '--title', f'python {HOSTILE}')

    def open_script(self):
        browser = self.open_small()
        browser.run('location.hash = "#f0"')
        browser.wait('document.querySelector("main").dataset.complete === "0"')
        return browser

    def test_overview(self):
        self.open_small()
        self.assertEqual(self.text('#title'), f'python {HOSTILE}')
        self.assertEqual(self.texts('nav h2 span:first-child'),
                         ['PROGRAM', 'SITE PACKAGES', 'STANDARD LIBRARY', 'WITHOUT A FILE'])
        self.assertEqual([name.rpartition('/')[2] for name in self.texts('nav li .name')],
                         ['main.py', 'work.py', 'decoder.py', '<string>'])
        self.assertEqual(self.texts('nav li .number'), ['70.0%', '20.0%', '10.0%', '0.00%'])
        legend = self.text('.legend')
        for part in ('executing bytecode 30.0%', 'C code of the interpreter 10.0%',
                     'C code of libraries 40.0%', 'kernel 20.0%'):
            self.assertIn(part, legend)
        self.assertIn('25 more samples (20.0% of all 125)', self.text('.note'))
        self.assertIn('60.0%\t60.0%\tmain.py:5 return sum(range(n))',
                      self.texts('tbody tr')[0].replace('\n', ''))

    def test_own_and_total_of_lines(self):
        self.open_script()
        self.assertEqual(self.row(5)[:2], ('60.0%', '60.0%'))
        self.assertEqual(self.row(8)[:2], ('10.0%', '50.0%'))
        self.assertEqual(self.row(12)[:2], ('', '60.0%'))
        self.assertEqual(self.row(1)[2], SOURCE.split('\n')[0])
        self.assertEqual(self.row(13)[2], SOURCE.split('\n')[12])

    def test_the_switch_of_own_and_total(self):
        browser = self.open_script()
        heat = ('[5, 8, 12].map(n => +document.querySelector(`.row[data-line="${n}"]`)'
                '.style.getPropertyValue("--h"))')
        own = browser.run(heat)
        self.assertEqual(own[0], 1)
        self.assertGreater(own[0], own[1])
        self.assertEqual(own[2], 0)
        self.assertEqual(self.pressed('by-own', 'by-total'), [True, False])
        browser.click('#by-total')
        total = browser.run(heat)
        self.assertEqual(self.pressed('by-own', 'by-total'), [False, True])
        self.assertGreater(total[2], 0.7)
        self.assertEqual(self.texts('nav li .number'), ['100.0%', '30.0%', '10.0%', '10.0%'])
        browser.press('o')
        self.assertEqual(browser.run(heat), own)

    def test_the_switch_of_all_lines_and_hot_lines(self):
        browser = self.open_script()
        self.assertEqual(self.count('.row'), LAST)
        browser.click('#hot-lines')
        browser.wait('document.querySelectorAll(".row").length < 30')
        self.assertEqual(self.count('.row[data-line="5"]'), 1)
        self.assertEqual(self.count('.row[data-line="40"]'), 0)
        browser.press('h')
        browser.wait(f'document.querySelectorAll(".row").length === {LAST}')

    def test_native_functions_below_a_line(self):
        browser = self.open_script()
        below_5 = ('document.querySelector(".row[data-line=\'5\'] + .native").innerText')
        self.settle()
        lines = browser.run(below_5).split('\n')
        text = ' '.join(lines)
        self.assertRegex(text, r'40\.0%.*zlib_compress zlib.*deflate libz\.so\.1 40\.0%'
                               r'.*20\.0%.*os_read python3.*vfs_read kernel 20\.0%')
        browser.click('#natives')
        self.assertEqual(self.count('.native'), 0)
        browser.press('c')
        self.assertGreater(self.count('.native'), 0)

    def test_jumps_to_callers_and_callees(self):
        browser = self.open_script()
        browser.click('.row[data-line="5"] code')
        sections = self.texts('.details section')
        self.assertRegex(sections[0], r'(?s)Own time went to.*40\.0%.*zlib_compress zlib'
                                      r'.*deflate libz\.so\.1.*20\.0%.*os_read python3')
        self.assertRegex(sections[1], r'(?s)Called by\s+40\.0%\s+main\.py:8 warm'
                                      r'\s+20\.0%\s+main\.py:9 warm')
        self.assertIn('No Python function', sections[2])
        browser.click('.details section a')
        browser.wait('location.hash === "#f0L8"')
        self.assert_here(8)
        browser.press('Enter')
        browser.wait('document.querySelectorAll(".details").length === 2')
        self.settle()
        calls = self.browser.run(
            '[...document.querySelectorAll(".row[data-line=\'8\'] ~ .details")][0].innerText')
        self.assertRegex(calls, r'(?s)Calls\s+40\.0%\s+hot main\.py')
        # From the program into another file, and back.
        browser.run('location.hash = "#f0L13"')
        browser.wait('document.querySelector(".row.here").dataset.line === "13"')
        browser.press('Enter')
        link = browser.run('(() => { const a = [...document.querySelectorAll(".details a")]'
                           '.find(a => a.innerText === "do"); a.click(); return a.hash; })()')
        browser.wait(f'location.hash === "{link}" && '
                     'document.querySelector(".head h2").innerText.endsWith("work.py")')
        self.assert_here(2)
        browser.run('history.back()')
        browser.wait('document.querySelector(".head h2").innerText.endsWith("main.py")')
        self.assert_here(13)

    def test_threads_and_processes(self):
        browser = self.open_script()
        self.assertEqual(
            [re.sub(r'\s+', ' ', text).strip() for text in self.texts('#threads option')],
            ['All processes', 'process 7 python, 90.0%', 'thread 7 python, 60.0%',
             'thread 8 python, 30.0%', f'process 9 {HOSTILE[:15].strip()}, 10.0%'])
        choose = ('(() => { const s = document.getElementById("threads"); '
                  's.selectedIndex = %d; s.dispatchEvent(new Event("change")); })()')
        browser.run(choose % 2)
        self.assertEqual(self.row(5)[:2], ('100.0%', '100.0%'))
        self.assertEqual(self.count('.row[data-line="13"].known'), 0)
        browser.run(choose % 3)
        self.assertEqual(self.row(13)[:2], ('', '100.0%'))
        browser.press('i')
        browser.wait('!!document.querySelector(".cards")')
        self.assertEqual(self.texts('nav li .number'), ['0.00%', '66.7%', '33.3%'])
        browser.run(choose % 4)
        self.assertIn('Own time of all Python functions: 10 samples', self.text('main'))
        browser.run(choose % 1)
        self.assertIn('90 samples', self.text('main'))

    def test_colors_of_the_system_and_the_switch(self):
        browser = self.open_script()
        self.assertGreater(self.brightness('light.png'), 180)
        browser.prefer('dark')
        browser.wait('document.documentElement.dataset.theme === "dark"')
        self.assertLess(self.brightness('dark.png'), 70)
        browser.click('#light')
        self.assertGreater(self.brightness('light.png'), 180)
        browser.prefer('light')
        browser.click('#dark')
        self.assertLess(self.brightness('dark.png'), 70)
        browser.press('t')
        self.assertEqual(self.pressed('auto', 'light', 'dark'), [True, False, False])
        self.assertGreater(self.brightness('light.png'), 180)

    def brightness(self, name):
        """Return the mean brightness of the page, 0 to 255."""
        self.settle()
        path = os.path.join(self.shared, name)
        self.browser.screenshot(path, 0.1)
        rows, step = pixels(path)
        some = [value for row in rows for i in range(0, len(row), step)
                for value in row[i:i + 3]]
        return sum(some) / len(some)

    def test_text_can_be_read_in_both_colors(self):
        browser = self.open_script()
        browser.click('.row[data-line="5"] code')
        for scheme in ('light', 'dark'):
            browser.prefer(scheme)
            browser.wait(f'document.documentElement.dataset.theme === "{scheme}"')
            for selector in ('.row[data-line="5"] code', '.row[data-line="5"] .k',
                             '.row[data-line="5"] .n', '.details .label', 'header p',
                             '.row[data-line="1"] .s', 'nav h2', '.native .what',
                             '.row[data-line="5"] .c', '.row[data-line="20"] .ln'):
                with self.subTest(scheme=scheme, selector=selector):
                    self.assertGreater(browser.run(CONTRAST % json.dumps(selector)), 3.9)

    def test_keys(self):
        browser = self.open_script()
        seen = []
        for _ in range(3):
            browser.press('n')
            seen.append(self.here())
        self.assertEqual(seen, [5, 8, 8])
        browser.press('p')
        self.assert_here(5)
        self.assertEqual(browser.run('document.activeElement.ariaLabel'),
                         'line 5, own 60.0%, total 60.0%')
        browser.press('Enter')
        self.assertEqual(browser.run('document.activeElement.ariaExpanded'), 'true')
        self.assertEqual(self.count('.details'), 1)
        browser.press('Enter')
        self.assertEqual(self.count('.details'), 0)
        browser.press('?')
        self.assertTrue(browser.run('document.getElementById("about").open'))
        browser.press('Escape')
        browser.wait('!document.getElementById("about").open')
        browser.press('/')
        for key in 'WORK':
            browser.press(key)
        self.assertEqual(len(self.texts('nav li')), 1)
        browser.press('Escape')
        browser.press('i')
        browser.wait('!!document.querySelector(".cards")')

    def test_each_control_has_a_name_and_can_be_reached_by_tab(self):
        browser = self.open_script()
        unnamed = browser.run(
            '[...document.querySelectorAll("button, select, input, a")].filter(e => '
            '!(e.innerText || e.ariaLabel || e.title || e.labels && e.labels.length)).map(e => e.outerHTML)')
        self.assertEqual(unnamed, [])
        reached = set()
        for _ in range(40):
            browser.press('Tab')
            reached.add(browser.run('document.activeElement.id || document.activeElement.ariaLabel'
                                    ' || document.activeElement.hash'))
        self.assertLessEqual({'threads', 'by-own', 'by-total', 'all-lines', 'hot-lines',
                              'natives', 'auto', 'light', 'dark', 'help', 'filter', '#f0',
                              'line 5, own 60.0%, total 60.0%'}, reached)

    def test_the_map_of_the_file(self):
        browser = self.open_script()
        browser.size(1400, 300)
        canvas = browser.run(
            '(() => { const r = document.querySelector("#map canvas").getBoundingClientRect(); '
            'return [r.left, r.top, r.width]; })()')
        drawn = browser.run(
            '(() => { const c = document.querySelector("#map canvas"); const d = c.getContext("2d")'
            '.getImageData(c.width / 2, 0, 1, c.height).data; '
            'return [...d].filter((v, i) => i % 4 === 3 && v > 0).length; })()')
        self.assertGreater(drawn, 4)
        for kind in ('mousePressed', 'mouseReleased'):
            browser.send('Input.dispatchMouseEvent', type=kind, x=canvas[0] + 10,
                         y=canvas[1] + 3 * 70, button='left', buttons=1, clickCount=1)
        browser.wait('!!document.querySelector(".row.here")')
        self.assertAlmostEqual(self.here(), 70, delta=2)

    def test_hostile_names_do_nothing(self):
        browser = self.open_small()
        self.assertEqual(self.count('img'), 0)
        number = browser.run('D.files.findIndex(f => f.path === "<string>")')
        browser.run(f'location.hash = "#f{number}L1"')
        browser.wait('!!document.querySelector(".row.known")')
        self.assertIn('has no source file', self.text('.note'))
        browser.click('.row.known code')
        self.assertIn(HOSTILE, self.text('.details'))
        self.assertEqual(self.count('img'), 0)
        self.assertNotIn('src=x', browser.run('document.cookie + Object.keys(window).join()'))

    def test_addresses_that_mean_nothing(self):
        browser = self.open_small()
        for hash in ('#f99', '#f0L999999', '#x', '#f0Lx'):
            with self.subTest(hash=hash):
                browser.run(f'location.hash = "{hash}"')
                browser.wait('document.querySelector("main").innerText.length > 100')

    def test_small_windows(self):
        browser = self.open_script()
        browser.click('.row[data-line="5"] code')
        for width in (320, 700, 1000):
            browser.size(width, 700)
            with self.subTest(width=width):
                self.assertLessEqual(browser.run('document.documentElement.scrollWidth'),
                                     width)

    def test_100000_lines_of_source(self):
        path = os.path.join(self.shared, 'large.py')
        with open(path, 'w') as file:
            file.writelines(f'x = {number}\n' for number in range(1, 100_001))
        os.utime(path, (1e9, 1e9))
        browser = self.open('large.html', ''.join(
            sample(*below(f'py::f:{path}:{line}')) for line in range(1, 100_001, 500)))
        begin = time.monotonic()
        browser.run('location.hash = "#f0L54001"')
        browser.wait('!!document.querySelector(".row.here")')
        self.assert_here(54001)
        self.assertEqual(self.row(54001), ('0.50%', '0.50%', 'x = 54001'))
        self.assertLess(time.monotonic() - begin, 30)
        browser.press('n')
        self.assert_here(54501)
        # The browser's own search finds all lines in the end.
        browser.wait('document.querySelectorAll(".row").length === 100000')
        browser.press('p')
        self.assert_here(54001)
        browser.press('h')
        browser.wait('document.querySelectorAll(".row").length < 2000')
        self.assert_here(54001)



CONTRAST = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const element = document.querySelector(%s);
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    let ground = [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse())
        ground = ground.map((old, i) => old + ([r, g, b][i] - old) * a / 255);
    const light = color => color.slice(0, 3).map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const pair = [light(rgba(getComputedStyle(element).color)), light(ground)].sort((a, b) => b - a);
    return (pair[0] + .05) / (pair[1] + .05);
})()"""


if __name__ == '__main__':
    unittest.main()
