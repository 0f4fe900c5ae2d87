"""A program on damaged input: running it, and what may be wrong with the way it ends."""
import subprocess


def attempt(*command, before=None):
    """The finished run, or None when it takes more than a minute.  before: called in the new process first."""
    try:
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, preexec_fn=before)
    except subprocess.TimeoutExpired:
        return None


def wrong_end(run):
    """What is wrong with how attempt() ended, which should be an error of the program's own; None: nothing."""
    if run is None:
        return "takes more than a minute"
    if run.returncode == 0:
        return "is accepted"
    return None if run.returncode == 1 else f"ends with status {run.returncode}"
