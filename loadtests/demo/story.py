"""The steps of the demo, in order. Each says what is done, shows the command one would type, checks the result."""

import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.demo.change import under_traffic
from loadtests.demo.gateway import CommandFailed, serving
from loadtests.demo.scene import MODEL, USERS, DemoFailed, Scene, count, versions
from loadtests.demo.screen import Screen
from loadtests.demo.traffic import ask_all, clients
from loadtests.demo.train import train

PERCENT = 10
CHECKED_USERS = 100
"""How many users' assignments are recomputed with `cutover assign`."""
FOUND_S = 15.0
SHADOW_S = 15.0

SLO = """[latency]
p50 = "25ms"
p99 = "250ms"
[errors]
max_rate = "0.1%"
[throughput]
of_intended = "99%"
[sample]
min_requests = 500
"""


class Story(Scene):
    """The demo, in a folder of its own."""

    def __init__(self, folder: Path, screen: Screen) -> None:
        super().__init__(folder, screen)
        self.report = folder / "report"
        self.before_flip: dict[str, str] = {}
        """Which version answered each user."""

    def tell(self) -> None:
        """All steps. Raises DemoFailed."""
        self.screen.title(
            "Cutover: from a new model version to every user's answer, and back.",
            "A gateway between backend services and ONNX models. All numbers below are from this run.",
        )
        try:
            with ExitStack() as running:
                self.train()
                self.serve(running)
                self.first_answers()
                self.new_version()
                self.shadow()
                self.canary()
                self.sticky()
                self.accuracy()
                self.load()
                self.standby()
                self.flip()
                self.rollback()
                self.audit()
        except CommandFailed as error:
            raise DemoFailed(str(error)) from error
        kept = shutil.copytree(self.report, tempfile.mkdtemp(prefix="cutover-load-report-"), dirs_exist_ok=True)
        self.screen.end(f"Done; nothing is left running. The load report is {kept}/report.html")

    def train(self) -> None:
        """Two versions of one model."""
        self.screen.step(
            "Train two versions of a model",
            "scikit-learn's handwritten digits: half to learn from, half kept aside. Both versions become ONNX files.",
        )
        first, second, self.digits = train()
        self.trained = first, second
        first.export(self.models, MODEL)
        rows = [(f"version {one.version}: {one.name}", f"{one.accuracy:.1%}") for one in self.trained]
        self.screen.table(("", f"right on {len(self.digits.labels)} unseen digits"), rows)

    def serve(self, running: ExitStack) -> None:
        """The gateway, with two proxies."""
        self.screen.step("Serve version 1", "One folder per version. Two proxy processes share the port.")
        self.screen.command("cutover", "serve", "--models", "models", "--proxies", "2")
        self.gateway = running.enter_context(serving(self.models, self.folder / "state", "--proxies", "2"))
        self.asking = running.enter_context(clients(self.gateway.target, MODEL, self.digits))
        self.screen.say(f"inference (gRPC) on {self.gateway.target}, metrics on http://{self.gateway.http}/metrics")
        self.run("status")

    def first_answers(self) -> None:
        """Real rows from many users."""
        self.screen.step(
            f"Ask, as {USERS} users",
            f"{len(self.asking)} backend services send every unseen digit over plain gRPC (tritonclient would do).",
        )
        answers = self.ask_everything()
        self.expect(versions(answers) == {"1"}, f"version 1 was to answer all, but answers came from {count(answers)}")
        self.screen.held(f"{len(answers):,} answers, all by version 1, {self.right(answers):.1%} of them right")

    def new_version(self) -> None:
        """A version that appears while the gateway runs."""
        self.screen.step(
            "Put version 2 beside it", "It is found while the gateway runs, and serves nobody until told to."
        )
        path = self.trained[1].export(self.models, MODEL)
        self.screen.command("cp", "model.onnx", str(path.relative_to(self.folder)))
        self.wait_until(lambda: len(self.gateway.read("models", MODEL)["versions"]) == 2, FOUND_S, "finding version 2")
        self.run("models")
        answers = self.ask_everything()
        self.expect(versions(answers) == {"1"}, f"nobody released version 2, but answers came from {count(answers)}")
        self.screen.held("clients still hear only version 1")

    def shadow(self) -> None:
        """Copies of real requests."""
        self.screen.step(
            "Shadow: version 2 sees copies of real requests",
            "Its answers are compared with those of version 1, prediction by prediction, and never sent to anyone.",
        )
        self.run("shadow", "set", MODEL, "2", "--rate", "1.0")
        answers = self.ask_everything()
        self.expect(versions(answers) == {"1"}, f"a shadow answered: {count(answers)}")
        found = self.shadow_statistics(len(answers))
        agreed = int(found["agreed"]) / int(found["compared"])
        self.run("status", MODEL)
        self.screen.held(
            f"of {int(found['compared']):,} copies compared, {agreed:.1%} named the same digit "
            f"({int(found['dropped']):,} copies dropped: copies wait, production does not)"
        )

    def canary(self) -> None:
        """A few users get the new version."""
        self.screen.step(
            f"Canary: version 2 answers {PERCENT} % of the users",
            "Who belongs to them is computed from a hash of the user id, not remembered.",
        )
        self.run("canary", "set", MODEL, "2", "--percent", str(PERCENT), "--reason", "agrees with v1")
        answers = self.ask_users()
        moved = sum(answer.version == "2" for answer in answers)
        # Five standard deviations of a fair draw: a right gateway practically never fails here.
        margin = 5 * np.sqrt(PERCENT / 100 * (1 - PERCENT / 100) / USERS)
        self.expect(abs(moved / USERS - PERCENT / 100) < margin, f"{moved} of {USERS} users got version 2")
        self.screen.held(f"{moved} of {USERS} users ({moved / USERS:.1%}) were answered by version 2")

    def sticky(self) -> None:
        """The same user, the same version; and anyone can compute which."""
        self.screen.step(
            "Users stick, and anyone can check", "Ask every user twice more, and compute some assignments."
        )
        first, second = self.ask_users(), self.ask_users()
        changed = [one.user for one, two in zip(first, second, strict=True) if one.version != two.version]
        self.expect(not changed, f"{len(changed)} users changed versions, such as {changed[:1]}")
        self.screen.held(f"all {USERS} users met the same version again, whichever service and proxy they came through")
        sample = [answer for answer in first if answer.version == "2"][:3] + first[:3]
        self.run("assign", MODEL, *(part for answer in sample for part in ("--unit", answer.user)))
        units = [part for answer in first[:CHECKED_USERS] for part in ("--unit", answer.user)]
        computed = {
            one["unit"]: str(one["version"]) for one in self.gateway.read("assign", MODEL, *units)["assignments"]
        }
        wrong = [answer.user for answer in first[:CHECKED_USERS] if computed.get(answer.user) != answer.version]
        self.expect(not wrong, f"`cutover assign` names another version than answered {wrong[:1]}")
        self.screen.held(f"computed and observed agree for {CHECKED_USERS} of {CHECKED_USERS} users")

    def accuracy(self) -> None:
        """Both versions on the same real rows, from their real answers."""
        self.screen.step(
            "Compare them on known labels",
            "Every unseen digit goes to both arms; request metadata `cutover-arm` chooses one.",
        )
        rows = []
        for arm, one in zip(("stable", "canary-2"), self.trained, strict=True):
            answers = ask_all(self.asking, self.questions(), arm)
            self.expect(versions(answers) == {str(one.version)}, f"arm {arm} was answered by {count(answers)}")
            rows.append((f"{arm}: version {one.version}", len(answers), f"{self.right(answers):.1%}"))
            # ONNX Runtime computes in single precision: a digit on the fence may fall to the other side.
            self.expect(abs(self.right(answers) - one.accuracy) < 0.01, f"{arm} is not as accurate as when trained")
        self.screen.table(("arm", "answers", "right"), rows)

    def load(self) -> None:
        """A Locust suite against an objective."""
        self.screen.step(
            "Load: does version 2 keep the promise under traffic?",
            "A Locust suite sends real rows to the canary arm at a fixed rate, whatever the answers do, and judges:",
        )
        slo, rows = self.folder / "slo.toml", self.folder / "rows.npy"
        slo.write_text(SLO, encoding="utf-8")
        np.save(rows, self.digits.rows)
        options = ("--suite", "steady", "--rate", "100", "--duration", "8s")
        shown = ("--slo", slo.name, "--rows", rows.name)
        files = ("--slo", str(slo), "--rows", str(rows), "--target", self.gateway.target, "--report", str(self.report))
        self.screen.output(SLO)
        self.screen.command("cutover", "loadtest", MODEL, "--version", "2", *options, *shown)
        said = self.gateway.run("loadtest", MODEL, "--version", "2", *options, *files, accept=(0, 4))
        self.screen.output("\n".join(line for line in said.splitlines() if not line.startswith("report:")))
        verdict = json.loads((self.report / "report.json").read_text(encoding="utf-8"))["verdict"]["result"]
        self.expect(verdict == "pass", f"the verdict is {verdict}; is this machine busy with something else?")
        self.screen.held("exit code 0: a pipeline may go on")

    def standby(self) -> None:
        """Warm the other colour."""
        self.screen.step("Make version 2 the standby", "It is loaded, warmed and healthy before this returns.")
        self.run("standby", "set", MODEL, "2")

    def flip(self) -> None:
        """Blue/green, under traffic."""
        self.screen.step(
            "Flip, while requests keep coming",
            f"{len(self.asking)} services ask without a pause. Once `flip` has returned, version 1 answers nobody.",
        )
        self.before_flip = {answer.user: answer.version for answer in self.ask_users()}
        under_traffic(self, "flip", before={"1", "2"}, after=dict.fromkeys(self.before_flip, "2"))

    def rollback(self) -> None:
        """And back."""
        self.screen.step(
            "Roll back, just as fast", "The old version stayed warm. The policy of before returns, canary included."
        )
        under_traffic(self, "rollback", before={"2"}, after=self.before_flip)

    def audit(self) -> None:
        """Who changed what."""
        self.screen.step(
            "Who did that?", "Every change is kept with its reason, each entry sealed by the hash of the one before."
        )
        self.run("audit", MODEL)
        self.run("audit", "--verify")

    def shadow_statistics(self, copies: int) -> dict[str, Any]:
        """What became of the copies, once each has been compared, dropped or failed (or after SHADOW_S)."""
        found: dict[str, Any] = {}

        def settled() -> bool:
            nonlocal found
            statistics = self.gateway.read("status", MODEL)["models"][0]["statistics"]
            found = next((one["shadow"] for one in statistics if one["arm"] == "shadow"), {})
            return sum(int(found.get(key, 0)) for key in ("compared", "dropped", "failed", "incomparable")) >= copies

        self.wait_until(settled, SHADOW_S, "the comparison of all copies")
        self.expect(int(found["compared"]) > 0, f"no copy was compared: {found}")
        return found
