"""What stands in docs/ as a program does what the page says.

Run by ctest: GRADTAP_BIN is where the programs are, GRADTAP_SOURCE the
repository, PYTHONPATH has the package.
"""

import csv
import glob
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

try:
    import grpc  # noqa: F401: the page's program needs it.
except ImportError as missing:
    print(f"skipped: {missing}; tools/setup --all installs it")
    sys.exit(77)
if shutil.which("zstd") is None:
    print("skipped: no zstd; tools/setup --all installs it")
    sys.exit(77)

BIN = os.environ["GRADTAP_BIN"]
SOURCE = os.environ["GRADTAP_SOURCE"]


def blocks(page, language):
    """The page's fenced blocks of a language, in order."""
    with open(f"{SOURCE}/docs/{page}", encoding="utf-8") as file:
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", file.read(),
                            re.MULTILINE | re.DOTALL)
    return [text for what, text in fenced if what == language]


class Pages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_program(self, text, *arguments):
        path = f"{self.folder}/program.py"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run([sys.executable, path, *arguments], timeout=120, cwd=SOURCE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def collector(self):
        process = subprocess.Popen(
            [f"{BIN}/gradtapd", "--data-dir", f"{self.folder}/data", "--disk-reserve", "0",
             "--grpc-listen", "127.0.0.1:0", "--http-listen", "off"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

        def stop():
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(60), 0)
            process.stdout.close()

        self.addCleanup(stop)
        return process.stdout.readline().split("grpc=")[1].split()[0]

    def test_protocol_the_agent_goes_on_where_it_was_cut_off(self):
        (agent,) = blocks("protocol.md", "python")
        address = self.collector()
        said = [self.run_program(agent, address, upto) for upto in ("4", "12", "12")]
        self.assertEqual(said, ["next_seq 1\ndurable_seq 4\n[] OK\n",
                                "next_seq 5\ndurable_seq 12\n[] OK\n",
                                "next_seq 13\n[] OK\n"])
        answer = subprocess.run(
            [f"{BIN}/gradtap", "--collector", address, "series", "by-hand", "--stat",
             "grad.l2,grad.zero", "--output", "csv"],
            check=True, timeout=120, stdout=subprocess.PIPE, text=True).stdout
        rows = list(csv.DictReader(io.StringIO(answer)))
        norms = [(int(row["step"]), float(row["value"])) for row in rows
                 if row["stat"] == "grad.l2"]
        self.assertEqual([step for step, _ in norms], list(range(10)))
        for step, norm in norms:  # sqrt(8) times the deviation; the mean is 0.
            self.assertAlmostEqual(norm, 8**0.5 / (step + 1), delta=1e-6)
        self.assertEqual({row["value"] for row in rows if row["stat"] == "grad.zero"}, {"3"})

    def test_protocol_shows_what_the_program_prints(self):
        session = [text for text in blocks("protocol.md", "") if "agent.py" in text]
        self.assertEqual(len(session), 1)
        for line in ("next_seq 5", "durable_seq 12", "next_seq 13"):
            self.assertIn(f"\n{line}\n", session[0])

    def test_storage_the_tile_decodes_to_what_its_test_says(self):
        tile, _ = blocks("storage.md", "python")
        said = self.run_program(tile, "tests/server/store/tile/golden/split.tile")
        bits = [f"{(step % 5 + 1) * 0x9e3779b1 % 2**32:08x}" for step in range(6)]
        lines = [" ".join([str(p), *bits]) for p in range(8)]
        self.assertEqual(said.splitlines(), lines)
        self.assertIn("\n".join(lines[:2]), "".join(blocks("storage.md", "")))

    def test_storage_the_spool_lists_all_records(self):
        _, segment = blocks("storage.md", "python")
        env = {name: value for name, value in os.environ.items()
               if not name.startswith("GRADTAP_")}
        env |= {"GRADTAP_MODE": "offline", "GRADTAP_BUDGET": "0",
               "GRADTAP_SPOOL": f"{self.folder}/spool",
               "GRADTAP_RING_FOLDER": f"{self.folder}/ring"}
        subprocess.run([f"{BIN}/amp", "--steps", "26", "--quiet", "--run", "offline"],
                       env=env, check=True, timeout=240, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        (path,) = glob.glob(f"{self.folder}/spool/*/*.seg")
        first, *records = self.run_program(segment, path).splitlines()
        self.assertEqual(first, "version 2, run offline, rank 0 of 1, for ''")
        self.assertEqual([line.split()[:3] for line in records],
                         [["1", "schema", "0"]] +
                         [[str(step + 2), "step", str(step)] for step in range(26)] +
                         [["28", "end", "0"]])

    def test_statistics_has_every_field(self):
        with open(f"{SOURCE}/docs/statistics.md", encoding="utf-8") as file:
            table = file.read().split("## Fields")[1].split("**Elements.**")[0]
        shown = set()
        for line in table.splitlines():
            if line.startswith("| `"):
                shown |= set(re.findall(r"`(\w+)`", line.split("|")[1]))
        (agent,) = blocks("protocol.md", "python")
        address = self.collector()
        self.run_program(agent, address, "12")
        known = set()
        for role in ("weight", "grad", "grad_local", "update", "buffer"):
            refusal = subprocess.run(
                [f"{BIN}/gradtap", "--collector", address, "series", "by-hand", "--stat",
                 f"{role}.qqqqqqqqqqqqqqqqqqqq"],
                timeout=120, stderr=subprocess.PIPE, text=True).stderr
            fields = re.findall(rf"{role}\.(\w+),", refusal.split("there are:")[1])
            self.assertGreater(len(fields), 15)
            known |= set(fields)
        self.assertEqual(shown - {"pXX"}, known)

    def test_agent_shows_lines_of_programs_that_are_built(self):
        def squeezed(code):
            return re.sub(r"\s", "", re.sub(r"//.*", "", code))

        code = ""
        for path in [*glob.glob(f"{SOURCE}/examples/*/*.cc"),
                     f"{SOURCE}/tests/integration/trainer.cc"]:
            with open(path, encoding="utf-8") as file:
                code += squeezed(file.read())
        shown = [line for text in blocks("agent.md", "cpp") for line in text.splitlines()
                 if squeezed(line) not in ("", "...", "}", "};")]
        self.assertGreater(len(shown), 30)
        self.assertEqual([line for line in shown if squeezed(line) not in code], [])


if __name__ == "__main__":
    unittest.main()
