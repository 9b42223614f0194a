"""tuning_tool.py COMMAND ... - what the tests of tuning do to databases and processes.

    sql FILE STATEMENT ...           run, and print what comes out
    interrupt SIGNAL FOLDER ATTNC... start `ATTNC...`, send the signal when it measures; FOLDER, its TMPDIR, must be empty afterwards"""
import os
import signal
import sqlite3
import subprocess
import sys


def sql(path, *statements):
    db = sqlite3.connect(path)
    for s in statements:
        for row in db.execute(s):
            print(*row, sep="|")
    db.commit()
    db.close()


def interrupt(name, folder, *command):
    number = getattr(signal, name)
    # A test run in the background ignores SIGINT, and so would attnc.
    p = subprocess.Popen(command, stderr=subprocess.PIPE, universal_newlines=True, env=dict(os.environ, TMPDIR=folder),
                         preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    for line in p.stderr:
        if "noise" in line:  # a candidate was measured: the next one is under way
            p.send_signal(number)
            break
    p.stderr.read()
    p.stderr.close()
    status = p.wait(60)
    assert status == -number, status
    assert not os.listdir(folder), os.listdir(folder)
    print("ended by", name)


if __name__ == "__main__":
    {"sql": sql, "interrupt": interrupt}[sys.argv[1]](*sys.argv[2:])
