"""How AWS is called: settings, clients, one attempt a call, and what each failure means.

The one place that knows boto3. Every call goes through `Aws.call`, which gives the answer with the
cloud's own Date, or raises `Refused`, `Unreachable` or `Unknown`. botocore's retries are off: they
would hide a lost reply behind the answer to its second attempt.

Messages carry AWS's error code and the call, never AWS's own text: that echoes signed headers and
policies.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from tidegate.base.errors import Refused, Unknown, Unreachable, WorldFailed
from tidegate.base.when import Instant, from_ms
from tidegate.connectors.aws_rights import Identity
from tidegate.connectors.patience import go_on
from tidegate.connectors.port import Credential

# AWS answers IAM and STS in well under a second; ten cover a slow day and free the worker soon.
READ_TIMEOUT = timedelta(seconds=10)
CONNECT_TIMEOUT = timedelta(seconds=5)

# Throttled calls were turned away at the door (AWS SDK reference, retry behaviour).
THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "PriorRequestNotComplete",
    }
)
# A policy said no to known, valid keys, or the keys were once valid and ran out.
DENIALS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "UnauthorizedOperation",
        "ExpiredToken",
        "ExpiredTokenException",
    }
)
_CODES: Mapping[str, tuple[str, str]] = {
    "NoSuchEntity": ("not_there", "look whether the role still exists in the account"),
    "LimitExceeded": ("limit_exceeded", "free some of the role's inline policy budget"),
    "PackedPolicyTooLarge": (
        "packed_policy_too_large",
        "put the roles Tidegate hands out under one IAM path, so that the session policy shrinks",
    ),
    "RegionDisabledException": ("region_disabled", "activate STS in that region"),
}
_DENIED_HELP = "compare the permissions and the trust policy with docs/connectors/aws.md"
# NB. `SSLError` is absent: it also stands for a TLS stream that broke after the request was sent.
_NOT_SENT = frozenset(
    {
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ProxyConnectionError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "NoRegionError",
        "InvalidEndpointConfigurationError",
        "ProfileNotFound",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """An identity on AWS by its access keys."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """How one target is reached, and what nobody who holds a role there may change.

    Attributes:
        region: the region of STS and of regional probes.
        endpoint_url: another address for every service; None is AWS itself.
        access_key_id: Tidegate's own keys; empty takes boto3's ambient chain (workload identity).
        opener: the keys it opens with, instead of those.
        closer: the keys it closes and reads with, instead of those.
        own: ARNs of Tidegate's own roles.
        handed: ARNs of every role the catalogue hands out on this target.
        protect: ARNs of customer managed policies that bind those roles.
    """

    region: str
    endpoint_url: str | None = None
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    opener: Keys | None = None
    closer: Keys | None = None
    own: tuple[str, ...] = ()
    handed: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    connect_timeout: timedelta = CONNECT_TIMEOUT
    read_timeout: timedelta = READ_TIMEOUT

    def keys(self, identity: Identity) -> Keys | None:
        """What `identity` signs with; None for boto3's ambient chain."""
        own = {Identity.OPENER: self.opener, Identity.CLOSER: self.closer}.get(identity)
        if own is not None or not self.access_key_id:
            return own
        return Keys(
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            session_token=self.session_token,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A successful answer and the cloud's Date on it (whole seconds)."""

    body: Mapping[str, Any]
    cloud_at: Instant

    def part(self, name: str) -> Mapping[str, Any]:
        """The member `name` of the answer. Raises Unknown when AWS left it out."""
        found = self.body.get(name)
        if isinstance(found, Mapping):
            return found
        raise Unknown(
            "bad_answer",
            f"expected `{name}` in the answer, got none",
            "look whether a proxy in between answers for AWS",
        )


class CloudNo(Refused):
    """A refusal with what AWS said exactly: `aws_code`, HTTP `http`, and the Date it came with."""

    def __init__(
        self, code: str, message: str, help: str, *, aws_code: str, http: int, at: Instant | None
    ) -> None:
        super().__init__(code, message, help)
        self.aws_code = aws_code
        self.http = http
        self.cloud_at = at

    @property
    def denied(self) -> bool:
        """Whether a policy (or the expiry) refused, by code and by HTTP status."""
        return self.http == 403 and self.aws_code in DENIALS


class Aws:
    """boto3 clients of one identity on one target. Thread-safe; made once a service."""

    def __init__(self, settings: AwsSettings, identity: Identity = Identity.CLOSER) -> None:
        self._settings = settings
        self._keys = settings.keys(identity)
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def region(self) -> str:
        """The region of the settings."""
        return self._settings.region

    @property
    def elsewhere(self) -> bool:
        """Whether one other address stands for AWS, in every region."""
        return bool(self._settings.endpoint_url)

    def call(
        self,
        service: str,
        act: Callable[[Any], Mapping[str, Any]],
        what: str,
        region: str = "",
    ) -> Reply:
        """`act` on Tidegate's own client of `service`; `what` names the call in messages.

        `region` is where it is asked, where that is not the region of the settings.

        Raises:
            Refused, Unreachable, Unknown: see the module.
        """
        return self._send(lambda: self._client(service, region), act, what)

    def call_as(
        self,
        credential: Credential,
        service: str,
        act: Callable[[Any], Mapping[str, Any]],
        what: str,
    ) -> Reply:
        """`act` on a client that signs with `credential`, made for this one call."""
        keys = {
            "aws_access_key_id": credential.material["access_key_id"],
            "aws_secret_access_key": credential.material["secret_access_key"],
            "aws_session_token": credential.material["session_token"],
        }
        return self._send(lambda: self._make(service, keys), act, what)

    def endpoint(self) -> str:
        """The URL that STS calls go to."""
        return str(self._client("sts").meta.endpoint_url)

    def _send(
        self,
        make: Callable[[], Any],
        act: Callable[[Any], Mapping[str, Any]],
        what: str,
    ) -> Reply:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        go_on(what)
        try:
            body = act(make())
        except ClientError as error:
            raise answered(error.response, what) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise unanswered(error, what) from error
        at = cloud_date(body)
        if at is None:
            raise undated(what)
        return Reply(body=body, cloud_at=at)

    def _client(self, service: str, region: str = "") -> Any:
        key = (service, region or self._settings.region)
        found = self._clients.get(key)
        if found is None:
            own = self._keys
            keys = {
                "aws_access_key_id": own.access_key_id if own else None,
                "aws_secret_access_key": own.secret_access_key if own else None,
                "aws_session_token": (own.session_token or None) if own else None,
            }
            found = self._clients.setdefault(key, self._make(service, keys, key[1]))
        return found

    def _make(self, service: str, keys: Mapping[str, str | None], region: str = "") -> Any:
        """A client. Under the lock: a boto3 session is not thread-safe while it makes one."""
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise Unreachable(
                "no_aws_extra",
                "expected boto3 to be installed for a target of connector `aws`, got none",
                "install Tidegate with its `aws` extra",
            ) from error
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=self._settings.connect_timeout.total_seconds(),
            read_timeout=self._settings.read_timeout.total_seconds(),
        )
        with self._lock:
            if self._session is None:
                self._session = boto3.session.Session()
            return self._session.client(
                service,
                region_name=region or self._settings.region,
                endpoint_url=self._settings.endpoint_url,
                config=config,
                **keys,
            )


def answered(response: Mapping[str, Any], what: str) -> WorldFailed:
    """What an error answer means: turned away (Refused), or broken half-way (Unknown)."""
    aws_code = str(response.get("Error", {}).get("Code", ""))
    http = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = f"AWS answered `{what}` with `{aws_code or 'no code'}` (HTTP {http})"
    if aws_code in THROTTLED or http == 429:
        code, help = "throttled", "it is tried again later; ask AWS for quota if it stays"
    elif http >= 500:
        return Unknown("cloud_error", told, "it is read back before anything is believed")
    elif aws_code in _CODES:
        code, help = _CODES[aws_code]
    elif aws_code in DENIALS or http in (401, 403):
        code, help = "access_denied", _DENIED_HELP
    else:
        code, help = "cloud_refused", "look the code up in the AWS API reference of that call"
    at = cloud_date(response)
    return CloudNo(code, told, help, aws_code=aws_code, http=http, at=at)


def unanswered(error: Exception, what: str) -> WorldFailed:
    """What no answer means: surely not sent (Unreachable), or sent and lost (Unknown)."""
    name = type(error).__name__
    if name == "NoCredentialsError":
        return Unreachable(
            "no_identity",
            f"expected an AWS identity to sign `{what}` with, got none",
            "give the target's `[target.aws]` keys, or run where the process has one of its own",
        )
    if any(kind.__name__ in _NOT_SENT for kind in type(error).__mro__):
        return Unreachable(
            "cloud_unreachable",
            f"expected AWS to take `{what}`, got `{name}` before it was sent",
            "look at the endpoint, the network and Tidegate's own credentials",
        )
    if name == "ParamValidationError":
        raise RuntimeError(f"{what} was called with parameters boto3 refuses") from error
    return Unknown(
        "no_answer",
        f"expected an answer to `{what}` that can be read, got `{name}` after it was sent",
        "it is read back before anything is believed",
    )


def undated(what: str) -> Unknown:
    """An answer without a readable Date: whose clock it is by cannot be told."""
    return Unknown(
        "no_cloud_date",
        f"expected a Date header in the answer to `{what}`, got none",
        "look whether a proxy in between strips headers",
    )


def cloud_date(response: Mapping[str, Any]) -> Instant | None:
    """The HTTP Date of an answer (RFC 9110 §5.6.7, whole seconds); None without a readable one."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return from_ms(int(parsedate_to_datetime(headers["date"]).timestamp()) * 1_000)
    except (KeyError, TypeError, ValueError):
        return None
