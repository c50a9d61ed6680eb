"""The Python package before a collector that asks for TLS and tokens.

Run by ctest: GRADTAP_BIN is where the programs are, PYTHONPATH has the package.
"""

import os
import signal
import subprocess
import sys
import tempfile
import unittest

try:
    import grpc  # noqa: F401
    import pandas  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}; tools/setup --all installs it")
    sys.exit(77)

import gradtap

BIN = os.environ["GRADTAP_BIN"]


class SecurityTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        at = cls.folder.name
        cls.data = f"{at}/data"
        cls.ca = f"{at}/cert.pem"
        cls.socket = f"unix:{at}/run/grpc"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
             "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", f"{at}/key.pem", "-out", cls.ca],
            check=True, stderr=subprocess.DEVNULL)
        cls.reader = cls.make_token("read")
        cls.writer = cls.make_token("write")
        cls.process = subprocess.Popen(
            [f"{BIN}/gradtapd", "--data-dir", cls.data, "--grpc-listen",
             "127.0.0.1:0", "--grpc-listen", cls.socket, "--http-listen",
             "off", "--tls-cert", cls.ca, "--tls-key", f"{at}/key.pem"],
            stdout=subprocess.PIPE, text=True)
        line = cls.process.stdout.readline()
        cls.address = line.split("grpc=")[1].split()[0]

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        cls.process.wait(timeout=60)
        cls.process.stdout.close()
        cls.folder.cleanup()

    @classmethod
    def make_token(cls, role):
        made = subprocess.run(
            [f"{BIN}/gradtapd", "token", "create", "--data-dir", cls.data,
             "--name", "python", "--role", role],
            check=True, capture_output=True, text=True)
        return made.stdout.strip()

    def tearDown(self):
        os.environ.pop("GRADTAP_TOKEN", None)
        os.environ.pop("GRADTAP_TOKEN_FILE", None)

    def test_a_reader_is_let_in_over_tls(self):
        with gradtap.connect(self.address, token=self.reader,
                             ca_file=self.ca) as client:
            self.assertEqual(len(client.runs()), 0)

    def test_who_may_not_is_told_what_is_missing(self):
        with gradtap.connect(self.address, ca_file=self.ca) as client:
            with self.assertRaisesRegex(gradtap.RefusedError, "token create"):
                client.runs()
        with gradtap.connect(self.address, token=self.writer,
                             ca_file=self.ca) as client:
            with self.assertRaisesRegex(gradtap.RefusedError, "role read"):
                client.runs()

    def test_the_token_is_taken_from_the_environment(self):
        os.environ["GRADTAP_TOKEN"] = self.reader
        with gradtap.connect(self.address, ca_file=self.ca) as client:
            client.runs()
        del os.environ["GRADTAP_TOKEN"]
        path = f"{self.folder.name}/token"
        with open(path, "w", encoding="ascii") as file:
            file.write(self.reader + "\n")
        os.environ["GRADTAP_TOKEN_FILE"] = path
        with gradtap.connect(self.address, ca_file=self.ca) as client:
            client.runs()

    def test_a_socket_needs_no_tls(self):
        with gradtap.connect(self.socket, token=self.reader) as client:
            client.runs()

    def test_a_token_is_not_sent_to_a_socket_that_could_be_anybodys(self):
        with tempfile.TemporaryDirectory() as folder:
            address = f"unix:{folder}/grpc"
            gradtap.connect(address, token="secret").close()
            for mode in (0o777, 0o1777, 0o770, 0o702):
                os.chmod(folder, mode)
                with self.assertRaisesRegex(gradtap.InvalidError,
                                            "others than its owner"):
                    gradtap.connect(address, token="secret")
                gradtap.connect(address).close()  # Without one it may be.
            os.chmod(folder, 0o700)
            with self.assertRaisesRegex(gradtap.UnavailableError,
                                        "cannot be looked at"):
                gradtap.connect(f"unix:{folder}/no/grpc", token="secret")

    @unittest.skipIf(os.geteuid() != 0, "a folder of somebody else takes root")
    def test_nor_to_one_in_a_folder_that_somebody_else_has_made(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chown(folder, 4321, 4321)
            with self.assertRaisesRegex(gradtap.InvalidError,
                                        "of user 4321"):
                gradtap.connect(f"unix:{folder}/grpc", token="secret")
        # Root alone makes folders in /run.
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            os.chown(folder, 4321, 4321)
            gradtap.connect(f"unix:{folder}/grpc", token="secret").close()

    @unittest.skipIf(os.geteuid() != 0, "a folder of somebody else takes root")
    def test_a_path_with_several_slashes_is_looked_at_to_its_end(self):
        def late(*_):
            raise AssertionError("connect() does not return")
        before = signal.signal(signal.SIGALRM, late)
        try:
            with tempfile.TemporaryDirectory(dir="/run") as folder:
                os.chown(folder, 4321, 4321)
                for slashes in ("/", "///", "////"):
                    signal.alarm(60)
                    gradtap.connect(f"unix:{slashes}{folder[1:]}/grpc",
                                    token="secret").close()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def test_a_token_is_not_sent_to_another_machine_in_the_clear(self):
        for elsewhere in ("192.0.2.1:1", "localhost.example:1",
                          "127.0.0.1.example:1", "[::2]:1"):
            with self.assertRaisesRegex(gradtap.InvalidError, "in the clear"):
                gradtap.connect(elsewhere, token="secret")


if __name__ == "__main__":
    unittest.main()
