"""The stage of `demo --break`: permission sets, on a cloud whose sessions outlive assignments.

The cloud is the stand-in as a program of its own, reached over HTTP. Its admin pages set the scene
and look behind it; Tidegate and the people never use them.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidegate.base.errors import WorldFailed
from tidegate.connectors.sandbox import REGION
from tidegate.main.stage import PEOPLE, SQLITE, Keys, StageOf

HUB = "999999999999"
ACCOUNTS = {"aws-prod": "111111111111", "aws-billing": "222222222222"}
SCHEDULED = "aws-billing"
SET = "Admin"
PROPAGATION = "2s"  # what is changed at the stand-in is true at once
WAIT_SECONDS = 10  # for an answer of its admin pages, or its end

CENTER = """
[identity_center]
instance = "{instance}"
identity_store = "{store}"
region = "{region}"
endpoint_url = "{url}"
opener_access_key_id = "env:TIDEGATE_DEMO_OPENER_KEY"
opener_secret_access_key = "env:TIDEGATE_DEMO_OPENER_SECRET"
closer_access_key_id = "env:TIDEGATE_DEMO_CLOSER_KEY"
closer_secret_access_key = "env:TIDEGATE_DEMO_CLOSER_SECRET"
propagation = "{propagation}"

[identity_center.schedule]
role = "arn:aws:iam::{hub}:role/TidegateSchedule"
dead_letter = "arn:aws:sqs:{region}:{hub}:tidegate-dead-letters"
"""
TARGET = """
[[target]]
id = "{target}"
connector = "aws"
account = "{account}"
owner = "group:sre-leads"
time_zone = "UTC"
labels = ["env=demo"]

[target.aws]
schedule = {schedule}

[[target.role]]
name = "admin"
kind = "permission-set"
title = "Administrator of {target}"
arn = "{arn}"
session = "1h"
"""
RULES = """
@id("admin") @max("1h") @approve("1 of group:sre-leads")
permit (principal in Group::"sre", action == Action::"request", resource)
when { context has ticket && context.ticket like "INC-*" };
"""

Json = dict[str, Any]


class Standin:
    """The stand-in cloud as a process, and its admin pages."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it on a free loopback port. It ends with us, however we end."""
        command = [sys.executable, "-m", "tidegate_standin", "--management", HUB]
        command += [part for account in ACCOUNTS.values() for part in ("--account", account)]
        command += ["--parent", str(os.getpid())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise WorldFailed("demo_cloud", "expected the stand-in cloud to start, got its end", "")
        self.url = json.loads(line)["url"]

    def stop(self) -> None:
        """End it and wait. Twice is as once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def ask(self, method: str, page: str, body: Json | None = None) -> Json:
        """One admin page. Raises WorldFailed when it does not answer or not understand."""
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=WAIT_SECONDS)
        try:
            connection.request(method, f"/_standin/{page}", json.dumps(body or {}))
            reply = connection.getresponse()
            shown: Json = json.loads(reply.read())
        except OSError as error:
            said = f"the stand-in cloud does not answer: {error.strerror or error}"
            raise WorldFailed("demo_cloud", said, "") from error
        finally:
            connection.close()
        if reply.status != 200:
            said = str(shown.get("error", reply.status))[:200]
            raise WorldFailed("demo_cloud", f"the stand-in cloud did not take `{page}`: {said}", "")
        return shown

    def calls(self, operation: str) -> int:
        """How often `service:Operation` was asked of it, whatever it answered."""
        return int(self.ask("GET", "calls")["calls"].get(operation, 0))

    def assigned(self, user: str, target: str) -> bool:
        """Whether an assignment of `user` stands there, by the cloud's own books."""
        return any(
            (one["principal"], one["account"]) == (user, ACCOUNTS[target])
            for one in self.ask("GET", "state")["assignments"]
        )

    def removing(self) -> bool:
        """Whether the removal of an assignment was accepted and is under way."""
        requests = self.ask("GET", "state")["requests"]
        return any(one["kind"] == "delete" and one["status"] == "IN_PROGRESS" for one in requests)


class CenterStage(StageOf):
    """An organisation with two member accounts and one permission set, `Admin`.

    Tidegate opens as one identity and closes as another, and the cloud's own schedules act as a
    third; each may do exactly what `tidegate onboard aws` prints for it, and the cloud enforces
    that. Only assignments on `aws-billing` get such a schedule.
    """

    rules = RULES

    def __init__(self, directory: Path, database: str = SQLITE) -> None:
        super().__init__(directory, database)
        self.cloud = Standin()
        self._ids: Json = {}
        self._policies: dict[str, Json] = {}

    @property
    def cloud_url(self) -> str:
        """The stand-in's address."""
        return self.cloud.url

    def cloud_up(self) -> None:
        """Start the stand-in and seed the organisation. Nobody is assigned anything."""
        self.cloud.start()
        self._ids = self.cloud.ask(
            "POST",
            "seed",
            {
                "users": [{"user_name": login} for login in PEOPLE],
                "permission_sets": [{"name": SET, "session_duration": "PT1H"}],
                "identities": [
                    {"name": name, "arn": f"arn:aws:iam::{HUB}:role/Tidegate{name.title()}"}
                    for name in ("opener", "closer")
                ]
                + [
                    {"name": f"deploy-{name}", "account": account}
                    for name, account in ACCOUNTS.items()
                ]
                + [{"name": "installer", "policies": [_allowing("scheduler:CreateScheduleGroup")]}],
                "portal_tokens": [{"user": login} for login in PEOPLE],
            },
        )

    def cloud_down(self) -> None:
        """Stop the stand-in."""
        self.cloud.stop()

    def settings(self) -> str:
        """The instance and the targets."""
        center = CENTER.format(
            instance=self._ids["instance_arn"],
            store=self._ids["identity_store_id"],
            region=REGION,
            url=self.cloud.url,
            propagation=PROPAGATION,
            hub=HUB,
        )
        targets = [
            TARGET.format(
                target=target,
                account=account,
                arn=self._ids["permission_sets"][SET],
                schedule="true" if target == SCHEDULED else "false",
            )
            for target, account in ACCOUNTS.items()
        ]
        return "".join([center, *targets])

    def secrets(self) -> dict[str, str]:
        """The keys of the opener and of the closer."""
        return {
            f"TIDEGATE_DEMO_{name.upper()}_{word}": self._ids["identities"][name][key]
            for name in ("opener", "closer")
            for word, key in (("KEY", "access_key_id"), ("SECRET", "secret_access_key"))
        }

    def installed(self, config: Path) -> None:
        """What an installer does: the identities' rights as printed, and the schedule group."""
        words = ("onboard", "aws", "--emit", "json", "--hub", HUB, "--config", str(config))
        found = self.tidegate("bo", *words).json()["identities"]
        for name in ("opener", "closer"):
            self._policies[name] = found[name]["policies"][0]["policy"]
            self._allow(name, self._policies[name])
        schedule = {
            "name": "TidegateSchedule",
            "trust": ["scheduler.amazonaws.com"],
            "policies": [found["schedule"]["policies"][0]["policy"]],
        }
        self.cloud.ask("POST", "seed", {"roles": [schedule]})
        keys = self._ids["identities"]["installer"]
        installer = Keys(keys["access_key_id"], keys["secret_access_key"]).environment()
        made = self.aws("bo", installer, "scheduler", "create-schedule-group", "--name", "tidegate")
        if made.code:
            raise WorldFailed("demo_cloud", f"the schedule group was not made: {made.error}", "")

    def closer_without(self, actions: Sequence[str]) -> None:
        """Take these actions from the closer at the cloud; none: all of its own are back."""
        left = [
            {**one, "Action": [action for action in one["Action"] if action not in actions]}
            for one in self._policies["closer"]["Statement"]
        ]
        kept = [one for one in left if one["Action"]]
        self._allow("closer", {**self._policies["closer"], "Statement": kept})

    def sign_in(self, person: str, target: str) -> Keys | None:
        """What the access portal gives that person now, by the AWS command line; None: nothing."""
        words = ("--role-name", SET, "--account-id", ACCOUNTS[target], "--output", "json")
        token = ("--access-token", self._ids["portal_tokens"][person])
        told = self.aws(person, {}, "sso", "get-role-credentials", *words, *token)
        if told.code:
            return None
        found = told.json()["roleCredentials"]
        return Keys(found["accessKeyId"], found["secretAccessKey"], found["sessionToken"])

    def _allow(self, name: str, policy: Json) -> None:
        self.cloud.ask("POST", "seed", {"identities": [{"name": name, "policies": [policy]}]})


def _allowing(action: str) -> Json:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}
