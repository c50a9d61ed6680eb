"""The Python package against a collector that an agent has written to, beside
what the command line says of the same run; and gRPC as a foreign client.

Run by ctest: GRADTAP_BIN is where the programs are, PYTHONPATH has the package.
"""

import csv
import io
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

try:
    import grpc
    import numpy
    import pandas
except ImportError as missing:
    print(f"skipped: {missing}; tools/setup --all installs it")
    sys.exit(77)

import gradtap
from gradtap import frames
from gradtap.v1 import query_pb2

BIN = os.environ["GRADTAP_BIN"]
STEPS = 24


def bits(value):
    return struct.pack("<d", value)


class Collector:
    """gradtapd on free ports, with a run of examples/char_gpt in it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [f"{BIN}/gradtapd", "--data-dir", f"{self.folder.name}/data",
             "--grpc-listen", "127.0.0.1:0", "--http-listen", "off"],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.address = line.split("grpc=")[1].split()[0]

    def train(self, run):
        env = dict(os.environ, GRADTAP_COLLECTOR=self.address,
                   GRADTAP_HISTOGRAM_INTERVAL="10", GRADTAP_BUDGET="0",
                   GRADTAP_SPOOL=f"{self.folder.name}/spool")
        subprocess.run(
            [f"{BIN}/char_gpt", "--steps", str(STEPS), "--batch", "1",
             "--threads", "1", "--quiet", "--run", run], env=env, check=True, timeout=240,
            stdout=subprocess.DEVNULL)

    def ask(self, *arguments):
        return subprocess.run(
            [f"{BIN}/gradtap", "--collector", self.address, *arguments],
            check=True, timeout=120, stdout=subprocess.PIPE, text=True).stdout

    def rows(self, *arguments):
        return list(csv.DictReader(
            io.StringIO(self.ask(*arguments, "--output", "csv"))))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)
        self.process.stdout.close()
        self.folder.cleanup()


class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.collector = Collector()
        cls.collector.train("gpt")
        cls.tap = gradtap.connect(cls.collector.address)

    @classmethod
    def tearDownClass(cls):
        cls.tap.close()
        cls.collector.stop()

    def test_runs_and_parameters_are_those_of_the_command_line(self):
        runs = self.tap.runs()
        self.assertEqual(list(runs["run"]), ["gpt"])
        self.assertEqual(runs["state"][0], "finished")
        self.assertEqual(runs["stored_steps"][0], STEPS)
        parameters = self.tap.parameters("gpt")
        expected = self.collector.rows("params", "gpt")
        self.assertEqual(list(parameters["param"]),
                         [row["name"] for row in expected])
        self.assertEqual([str(n) for n in parameters["numel"]],
                         [row["numel"] for row in expected])

    def test_series_have_the_same_bits(self):
        frame = self.tap.series("gpt", ["grad.l2", "update.ratio",
                                        "scalar.loss"], match="weight$")
        expected = self.collector.rows(
            "series", "gpt", "--stat", "grad.l2,update.ratio,scalar.loss",
            "--match", "weight$")
        self.assertGreater(len(expected), 3 * STEPS)
        self.assertEqual(len(frame), len(expected))
        key = ["param", "stat", "step"]
        ours = frame.sort_values(key).reset_index(drop=True)
        theirs = sorted(expected, key=lambda row: (
            row["param"], row["stat"], int(row["step"])))
        for i, row in enumerate(theirs):
            self.assertEqual(ours["param"][i], row["param"])
            self.assertEqual(ours["stat"][i], row["stat"])
            self.assertEqual(ours["step"][i], int(row["step"]))
            self.assertEqual(ours["absent"][i], row["value"] == "")
            if row["value"]:
                self.assertEqual(bits(ours["value"][i]),
                                 bits(float(row["value"])))
            self.assertEqual(ours["time"][i], pandas.Timestamp(row["time"]))

    def test_steps_are_sliced_like_python_does(self):
        for steps in (slice(5, 9), (5, 9), slice(-19, -15)):
            frame = self.tap.series("gpt", "scalar.loss", steps=steps)
            self.assertEqual(list(frame["step"]), [5, 6, 7, 8])
        since = self.tap.series("gpt", "scalar.loss")["time"][20]
        frame = self.tap.series("gpt", "scalar.loss", since=since)
        self.assertEqual(list(frame["step"]), [20, 21, 22, 23])

    def test_a_snapshot_is_that_of_the_command_line(self):
        frame = self.tap.snapshot("gpt", 7, statistics=["weight.std",
                                                        "grad.nan"])
        expected = self.collector.rows("snapshot", "gpt", "--step", "7",
                                       "--stat", "weight.std,grad.nan")
        self.assertEqual(frame.attrs["step"], 7)
        self.assertIn("loss", frame.attrs["scalars"])
        self.assertEqual(len(frame), len(expected))
        for row in expected:
            value = frame.loc[row["param"], "weight.std"]
            if row["weight.std"] == "":  # A buffer has no weight.
                self.assertTrue(math.isnan(value))
            else:
                self.assertEqual(bits(value), bits(float(row["weight.std"])))

    def test_a_heat_map_has_the_worst_of_each_bucket(self):
        heat = self.tap.heat_map("gpt", "grad.l2", buckets=6)
        series = self.tap.series("gpt", "grad.l2")
        self.assertEqual(heat.shape[1], 6)
        self.assertFalse(heat.attrs["nonfinite"].any())
        begins = list(heat.columns) + [STEPS]
        for name in heat.index:
            steps = series[series["param"] == name]
            for i in range(6):
                inside = steps[(steps["step"] >= begins[i]) &
                               (steps["step"] < begins[i + 1])]
                worst = inside["value"].max()
                self.assertEqual(heat.loc[name].iloc[i], numpy.float32(worst))
        merged = self.tap.heat_map("gpt", "grad.l2", buckets=6, rank="merged")
        self.assertTrue(numpy.array_equal(merged.to_numpy(), heat.to_numpy(),
                                          equal_nan=True))

    def test_histograms_have_every_element_once(self):
        frame = self.tap.histograms("gpt", match="weight$", role="weight")
        self.assertEqual(frame.attrs["step"], 20)
        numel = self.tap.parameters("gpt", match="weight$").set_index("param")
        for name, rows in frame.groupby("param"):
            self.assertEqual(rows["count"].sum(), numel.loc[name, "numel"])
            record = self.tap.snapshot(
                "gpt", 20, statistics=["weight.min", "weight.max"])
            self.assertLessEqual(rows["lower"].min(),
                                 record.loc[name, "weight.min"])
            self.assertGreaterEqual(rows["upper"].max(),
                                    record.loc[name, "weight.max"])

    def test_top_and_gaps(self):
        top = self.tap.top("gpt", "grad.l2", step=9, limit=3)
        expected = self.tap.snapshot("gpt", 9, statistics=["grad.l2"])
        self.assertEqual(
            list(top["param"]),
            list(expected["grad.l2"].nlargest(3).index))
        self.assertIn("since", self.tap.top("gpt", since_step=1).columns)
        gaps = self.tap.gaps("gpt")
        self.assertEqual(len(gaps), 0)
        self.assertIn("cause", gaps.columns)

    def test_watching_what_has_ended_gives_its_newest_step_and_ends(self):
        shown = list(self.tap.watch("gpt", "grad.l2"))
        self.assertEqual([frame.attrs["step"] for frame in shown], [STEPS - 1])
        self.assertEqual(list(shown[0].columns), ["grad.l2"])

    def test_errors_name_the_value_and_what_is_near(self):
        with self.assertRaisesRegex(gradtap.NotFoundError, "'gtp'.*'gpt'"):
            self.tap.series("gtp", "grad.l2")
        with self.assertRaisesRegex(gradtap.InvalidError, r"\("):
            self.tap.series("gpt", "grad.l2", match="(")
        with self.assertRaisesRegex(gradtap.InvalidError, "no stride"):
            self.tap.series("gpt", "grad.l2", steps=slice(0, 9, 2))
        with self.assertRaisesRegex(gradtap.InvalidError, "'wight'"):
            self.tap.histograms("gpt", role="wight")
        with self.assertRaisesRegex(gradtap.InvalidError, "in the clear"):
            gradtap.connect("192.0.2.1:1", token="secret")
        nobody = gradtap.connect("127.0.0.1:1", timeout=60)
        with self.assertRaisesRegex(gradtap.UnavailableError, "127.0.0.1:1"):
            nobody.runs()

    def test_the_collector_reflects_itself_and_is_healthy(self):
        with grpc.insecure_channel(self.collector.address) as channel:
            raw = {"request_serializer": bytes, "response_deserializer": bytes}
            reflect = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/"
                "ServerReflectionInfo", **raw)
            # Field 7, list_services: "".
            answer = next(reflect(iter([b"\x3a\x00"]), timeout=60))
            for service in (b"gradtap.v1.Query", b"gradtap.v1.Telemetry",
                            b"grpc.health.v1.Health"):
                self.assertIn(service, answer)
            check = channel.unary_unary("/grpc.health.v1.Health/Check", **raw)
            self.assertEqual(check(b"", timeout=60), b"\x08\x01")  # SERVING.

    def test_stubs_answer_without_pandas(self):
        answer = self.tap.query.GetRun(query_pb2.GetRunRequest(run="gpt"))
        self.assertEqual(answer.run.stored_steps, STEPS)

    def test_exports_read_back(self):
        lines = [json.loads(line) for line in self.collector.ask(
            "export", "gpt", "--format", "jsonl", "--stat", "grad.l2,scalar.*",
            "--steps", "3:4").splitlines()]
        frame = self.tap.series("gpt", "grad.l2", steps=(3, 4))
        values = {row["param"]: row["grad.l2"] for row in lines
                  if "grad.l2" in row}
        for name, value in zip(frame["param"], frame["value"]):
            self.assertEqual(bits(values[name]), bits(value))


class FramesTest(unittest.TestCase):
    def test_absent_missing_and_not_finite_are_three_things(self):
        answer = query_pb2.GetSeriesResponse()
        series = answer.series.add(run="r", parameter="p<b>\u202e\0",
                                   statistic="grad.l2", rank=4294967295)
        series.attempt.extend([1, 1, 2])
        series.step.extend([0, 1, 5])
        series.time_unix_ns.extend([1, 2, 3])
        series.value.extend([math.nan, math.nan, -math.inf])
        series.absent.append(1)
        frame = frames.of_series(answer)
        self.assertEqual(list(frame["absent"]), [False, True, False])
        self.assertEqual(frame["value"][2], -math.inf)
        self.assertEqual(frame["rank"][0], "merged")
        self.assertEqual(frame["param"][0], "p<b>\u202e\0")
        self.assertEqual(list(frame["step"]), [0, 1, 5])

    def test_empty_answers_have_their_columns(self):
        self.assertIn("value", frames.of_series(query_pb2.GetSeriesResponse()))
        self.assertIn("state", frames.of_runs(query_pb2.ListRunsResponse()))
        self.assertEqual(
            frames.of_snapshot(query_pb2.GetSnapshotResponse()).shape, (0, 0))

    def test_bins_are_those_of_the_protocol(self):
        answer = query_pb2.GetHistogramsResponse()
        one = answer.histograms.add(parameter="w", role=1)
        one.bin.extend([0, 1, 2, 4, 16 + 127, 16 + 254, 272 + 128])
        one.count.extend([1] * 7)
        frame = frames.of_histograms(answer)
        self.assertEqual(list(frame["lower"][[0, 2, 3, 4, 6]]),
                         [0, math.inf, 0, 1, -4])
        self.assertEqual(list(frame["upper"][[0, 3, 4, 6]]),
                         [0, 2.0**-126, 2, -2])
        self.assertTrue(math.isnan(frame["lower"][1]))
        self.assertTrue(math.isfinite(frame["upper"][5]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
