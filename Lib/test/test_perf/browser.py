"""Drives a headless Chromium.

The browser is spoken to in its DevTools protocol: JSON that ends with a zero byte, through
two pipes (--remote-debugging-pipe).  This file has no tests.
"""

import base64
import json
import os
import select
import subprocess
import time

from test.test_perf.fixtures import tool_missing

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
TIMEOUT = 120

# The keys that tests press, by what JavaScript calls them.
CODES = {'Enter': 13, 'Escape': 27, 'Tab': 9}


def find_browser():
    """Return the path of a Chromium, or skip the test if there is none."""
    import shutil
    path = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None or not os.access(path, os.X_OK):
        tool_missing(f'no Chromium: neither $CHROMIUM nor PATH has it ({", ".join(NAMES)})')
    return path


class Browser:
    """A browser with one page.

    messages   what the page has written to its console, and errors
    requests   the addresses that the page has asked for
    """

    def __init__(self, program, directory, width=1400, height=900):
        to_child, self.output = os.pipe()
        self.input, from_child = os.pipe()
        # The browser must not see the settings of this process.
        self.process = subprocess.Popen(
            ['/bin/sh', '-c', f'exec "$@" 3<&{to_child} 4>&{from_child}', 'sh', program,
             '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
             '--disable-dev-shm-usage', '--disable-background-networking',
             '--disable-component-update', '--hide-scrollbars',
             f'--user-data-dir={os.path.join(directory, "profile")}',
             '--remote-debugging-pipe', f'--window-size={width},{height}', 'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            pass_fds=(to_child, from_child),
            env={'HOME': directory, 'PATH': os.environ.get('PATH', '')})
        os.close(to_child)
        os.close(from_child)
        self.number = 0
        self.buffer = b''
        self.session = None
        self.loaded = False
        self.messages = []
        self.requests = []
        targets = self.send('Target.getTargets')['targetInfos']
        page = next(target for target in targets if target['type'] == 'page')
        self.session = self.send('Target.attachToTarget', targetId=page['targetId'],
                                 flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.send(f'{domain}.enable')

    def close(self):
        for descriptor in (self.input, self.output):
            os.close(descriptor)
        self.process.kill()
        self.process.stderr.close()
        self.process.wait()

    def send(self, method, **parameters):
        """Send a command and return its result."""
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': parameters}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.output, json.dumps(message).encode() + b'\0')
        while True:
            answer = self.receive()
            if answer.get('id') == self.number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']
            self.note(answer)

    def receive(self):
        while b'\0' not in self.buffer:
            if not select.select([self.input], [], [], TIMEOUT)[0]:
                raise TimeoutError('the browser does not answer')
            data = os.read(self.input, 1 << 20)
            if not data:
                raise RuntimeError('the browser has ended: '
                                   + self.process.stderr.read().decode()[-1000:])
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b'\0')
        return json.loads(message)

    def note(self, event):
        parameters = event.get('params', {})
        method = event.get('method')
        if method == 'Page.loadEventFired':
            self.loaded = True
        elif method == 'Network.requestWillBeSent':
            self.requests.append(parameters['request']['url'])
        elif method == 'Runtime.exceptionThrown':
            details = parameters['exceptionDetails']
            self.messages.append(details.get('exception', {}).get('description')
                                 or details['text'])
        elif method == 'Log.entryAdded':
            self.messages.append(parameters['entry']['text'])
        elif method == 'Runtime.consoleAPICalled':
            self.messages.append(str(parameters['args']))

    def open(self, url):
        self.loaded = False
        self.send('Page.navigate', url=url)
        while not self.loaded:
            self.note(self.receive())

    def run(self, expression):
        """Return the value of a JavaScript expression."""
        result = self.send('Runtime.evaluate', expression=expression, returnByValue=True,
                           awaitPromise=True)
        if 'exceptionDetails' in result:
            raise RuntimeError(result['exceptionDetails']['exception']['description'])
        return result['result'].get('value')

    def wait(self, expression, seconds=TIMEOUT):
        """Wait until an expression is true; return its value."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(expression)
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.05)

    def press(self, key):
        """Press and release a key."""
        code = CODES.get(key) or ord(key.upper())
        parameters = {'key': key, 'windowsVirtualKeyCode': code}
        text = '\r' if key == 'Enter' else key if len(key) == 1 else None
        if text:
            parameters['text'] = text
        self.send('Input.dispatchKeyEvent', type='keyDown', **parameters)
        parameters.pop('text', None)
        self.send('Input.dispatchKeyEvent', type='keyUp', **parameters)

    def click(self, selector):
        """Click in the middle of the first element that a selector finds."""
        place = self.run(
            '(() => { const e = document.querySelector(%s); e.scrollIntoView({block: "nearest"}); '
            'const r = e.getBoundingClientRect(); '
            'return [r.left + r.width / 2, r.top + r.height / 2]; })()' % json.dumps(selector))
        for kind in ('mousePressed', 'mouseReleased'):
            self.send('Input.dispatchMouseEvent', type=kind, x=place[0], y=place[1],
                      button='left', clickCount=1)

    def prefer(self, scheme):
        """Let the system prefer the color scheme 'light' or 'dark'."""
        self.send('Emulation.setEmulatedMedia',
                  features=[{'name': 'prefers-color-scheme', 'value': scheme}])

    def size(self, width, height):
        self.send('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=1, mobile=False)

    def screenshot(self, path, scale=1):
        """Write a PNG of the window, smaller by the factor `scale`."""
        width, height = self.run('[innerWidth, innerHeight]')
        data = self.send('Page.captureScreenshot', format='png', clip={
            'x': 0, 'y': 0, 'width': width, 'height': height, 'scale': scale})['data']
        with open(path, 'wb') as file:
            file.write(base64.b64decode(data))
