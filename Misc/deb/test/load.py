"""Ask a server on this machine: load.py PORT SECONDS; prints how many answers were right.

Four threads ask, at most 20000 times in all.
"""

import http.client
import sys
import threading
import time

PORT, SECONDS = int(sys.argv[1]), float(sys.argv[2])
THREADS, REQUESTS = 4, 5000
ANSWER = "<li>row 19: 37981000</li></ul>"
right = [0] * THREADS
wrong = []


def ask(index, end):
    for _ in range(REQUESTS):
        if time.monotonic() > end or wrong:
            return
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        connection.request("GET", "/")
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != 200 or not text.endswith(ANSWER):
            wrong.append((response.status, text))
            return
        right[index] += 1


def main():
    end = time.monotonic() + SECONDS
    threads = [threading.Thread(target=ask, args=(n, end)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        sys.exit(f"wrong answer: {wrong[0]}")
    if not all(right):
        sys.exit("a thread got no answer")
    print(sum(right))


main()
