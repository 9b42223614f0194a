"""A lit format: text tests as usual, and the test programs that CMake lists in programs.txt, one a line:

    run NAME COMMAND ...      one test
    long NAME COMMAND ...     one test, of the campaigns only (scripts/test.sh --long)
    named NAME COMMAND ...    a test for each name that `COMMAND --list` prints, run as `COMMAND NAME`

Exit status 77 means skipped; the program says why on its last line."""
import os
import subprocess

import lit.formats
import lit.Test
import lit.util

LISTING_SECONDS = 20


class TextAndPrograms(lit.formats.ShTest):
    def __init__(self, list_file, with_long):
        super().__init__(execute_external=False)
        self.commands = {}
        with open(list_file) as f:
            for line in f:
                kind, name, *command = line.split()
                if kind == "named":
                    for word in self._names(command):
                        self.commands[("program", name, word)] = command + [word]
                elif kind == "run" or with_long:
                    self.commands[("program", name)] = command

    @staticmethod
    def _names(command):
        try:
            return subprocess.run(command + ["--list"], stdout=subprocess.PIPE, timeout=LISTING_SECONDS, check=True).stdout.decode().split()
        except (OSError, subprocess.SubprocessError):
            return ["--list"]  # not built, or broken: a test that fails

    def getTestsInDirectory(self, suite, path, lit_config, local_config):
        yield from super().getTestsInDirectory(suite, path, lit_config, local_config)
        if not path:
            for where in self.commands:
                yield lit.Test.Test(suite, where, local_config)

    def execute(self, test, lit_config):
        command = self.commands.get(tuple(test.path_in_suite))
        if not command:
            return super().execute(test, lit_config)
        folder = os.path.join(test.config.test_exec_root, *test.path_in_suite)
        os.makedirs(folder, exist_ok=True)
        try:
            out, err, code = lit.util.executeCommand(command, env=test.config.environment, cwd=folder, timeout=lit_config.maxIndividualTestTime)
        except lit.util.ExecuteCommandTimeoutException as e:
            return lit.Test.TIMEOUT, e.out + e.err
        except OSError as e:
            return lit.Test.FAIL, "%s: %s" % (command[0], e)
        if code == 77:
            return lit.Test.UNSUPPORTED, "skipped: " + (out.strip().splitlines() or ["no reason given"])[-1]
        return (lit.Test.PASS if code == 0 else lit.Test.FAIL), "$ %s\n%s%s" % (" ".join(command), out, err)
