"""gevent: greenlets over a hub, with the standard library patched for it."""

from gevent import monkey

monkey.patch_all()

import gc
import socket
import subprocess
import sys
import threading
import traceback

import gevent
import gevent.core
import gevent.event
import gevent.local
import gevent.lock
import gevent.pool
import gevent.queue
import gevent.server
import gevent.threadpool
import gevent.timeout


def fibonacci(n):
    gevent.sleep(0)
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def greenlets():
    jobs = [gevent.spawn(fibonacci, n) for n in range(12)]
    gevent.joinall(jobs)
    print("fibonacci", [job.value for job in jobs])


def pools():
    pool = gevent.pool.Pool(5)
    print("map", pool.map(lambda x: x * x, range(20)))
    print("imap", list(pool.imap(fibonacci, range(8))))
    print("unordered", sorted(pool.imap_unordered(fibonacci, range(8))))


def queues():
    queue = gevent.queue.Queue(maxsize=3)
    done = []

    def produce(name):
        for i in range(50):
            queue.put((name, i))

    def consume():
        for _ in range(100):
            done.append(queue.get())

    gevent.joinall([gevent.spawn(produce, "a"), gevent.spawn(produce, "b"),
                    gevent.spawn(consume)])
    print("queue", len(done), [i for name, i in done if name == "a"] == list(range(50)))


def timeouts():
    def wait_deep(n):
        if n:
            wait_deep(n - 1)
        else:
            gevent.sleep(1000)

    try:
        with gevent.timeout.Timeout(0.01):
            wait_deep(50)
    except gevent.timeout.Timeout as timeout:
        print("timeout", len(traceback.extract_tb(timeout.__traceback__)) > 50)


def killed():
    seen = []

    def victim():
        try:
            gevent.sleep(1000)
        except gevent.GreenletExit:
            seen.append("exit")
            raise
        finally:
            seen.append("finally")

    jobs = [gevent.spawn(victim) for _ in range(10)]
    gevent.sleep(0)
    gevent.killall(jobs)
    print("killed", seen == ["exit", "finally"] * 10)


def failing():
    def fail(n):
        if n == 0:
            raise ValueError("at the bottom")
        gevent.sleep(0)
        fail(n - 1)

    job = gevent.Greenlet(fail, 10)
    hub = gevent.get_hub()
    kept, hub.print_exception = hub.print_exception, lambda *args: None
    job.start()
    job.join()
    hub.print_exception = kept
    names = [entry.name for entry in traceback.extract_tb(job.exc_info[2])]
    print("failing", repr(job.exception), names.count("fail"))


def generators():
    """Greenlets that are switched while generators run, within each other."""
    def numbers(n):
        for i in range(n):
            gevent.sleep(0)
            yield i

    def total(n):
        return sum(a * b for a in numbers(n) for b in numbers(3))

    print("generators", gevent.pool.Pool(4).map(total, range(10)))


def locals_of_greenlets():
    local = gevent.local.local()
    semaphore = gevent.lock.BoundedSemaphore(2)
    values = []

    def work(n):
        with semaphore:
            local.value = n
            gevent.sleep(0)
            values.append(local.value)

    gevent.joinall([gevent.spawn(work, n) for n in range(10)])
    print("locals", sorted(values))


def echo_server():
    def echo(client, address):
        while data := client.recv(1000):
            client.sendall(data.upper())

    server = gevent.server.StreamServer(("127.0.0.1", 0), echo)
    server.start()

    def ask(n):
        with socket.create_connection(server.address) as client:
            replies = []
            for i in range(5):
                client.sendall(b"client %d message %d" % (n, i))
                replies.append(client.recv(1000))
            return replies

    print("echo", gevent.pool.Pool(8).map(ask, range(16)))
    server.stop()


def real_threads():
    pool = gevent.threadpool.ThreadPool(3)
    print("threads", pool.map(lambda n: sum(range(n)), range(0, 10_000, 1000)))

    def run_hub(n):
        """Run greenlets in this thread. That makes the hub of the thread."""
        return sum(job.get() for job in [gevent.spawn(fibonacci, i) for i in range(n)])

    print("hubs", pool.map(run_hub, range(8)))
    pool.kill()


def patched_threads():
    event = threading.Event()
    seen = []

    def wait():
        event.wait()
        seen.append(threading.current_thread().name)

    threads = [threading.Thread(target=wait, name=f"t{n}") for n in range(5)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join()
    print("patched", sorted(seen))


def children():
    jobs = [gevent.spawn(subprocess.check_output,
                         [sys.executable, "-c", f"print({n} * 2)"]) for n in range(3)]
    gevent.joinall(jobs)
    print("children", [job.get() for job in jobs])
    pid = gevent.os.fork()
    if pid == 0:
        gevent.reinit()
        gevent.os._exit(gevent.spawn(fibonacci, 7).get())
    print("fork", gevent.os.waitpid(pid, 0)[1] >> 8)


def traced():
    """A trace function of greenlets sees each switch."""
    import greenlet
    events = []

    def trace(event, args):
        events.append(event)

    kept = greenlet.settrace(trace)
    gevent.joinall([gevent.spawn(fibonacci, 3) for _ in range(3)])
    greenlet.settrace(kept)
    print("traced", len(events), sorted(set(events)))


print(gevent.__version__, sorted(gevent.core.supported_backends())[:1] != [])
print("compiled", sys.modules["gevent._gevent_cgreenlet"].__file__.rpartition("/")[2])
for test in (greenlets, pools, queues, timeouts, killed, failing, generators,
             locals_of_greenlets, echo_server, real_threads, patched_threads, children,
             traced):
    test()
gc.collect()
print("end")
