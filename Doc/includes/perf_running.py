import signal
import sys
import time

def toggle(signum, frame):
    if sys.is_stack_trampoline_active():
        sys.deactivate_stack_trampoline()
    else:
        sys.activate_stack_trampoline("perf")

signal.signal(signal.SIGUSR2, toggle)

def handle(request):
    return sum(range(request))

def serve(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        handle(2_000)

serve(600)
