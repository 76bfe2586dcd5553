"""The calls by which an AWS session can make something that works after it ends.

The session policy denies them all. A role of the catalogue may open one by name; its exposure then
grows by the life stated here. The table holds what AWS documents; it cannot hold what a service
starts to hand out tomorrow, so docs/connectors/aws.md says what a deny cannot stop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import LONGEST_DURATION

ENDLESS = LONGEST_DURATION  # life of what ends only when somebody removes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """A call that hands out something which works after the session that asked for it.

    Attributes:
        life: the longest life of what it hands out; ENDLESS when AWS sets no end.
        deny: the pattern by which the session policy denies it; may cover neighbours.
        needs: calls that must be open too for it to work.
        source: the AWS document that states the life.
    """

    life: timedelta
    deny: str
    source: str
    needs: tuple[str, ...] = ()


_BEARER = "sts:GetServiceBearerToken"

MINTING: Mapping[str, Minting] = {
    "sts:AssumeRole": Minting(
        life=timedelta(hours=1), deny="sts:Assume*", source="IAM User Guide, role chaining"
    ),
    "sts:AssumeRoot": Minting(
        life=timedelta(minutes=15), deny="sts:Assume*", source="STS API, AssumeRoot"
    ),
    "sts:GetFederationToken": Minting(
        life=timedelta(hours=36), deny="sts:Get*Token", source="STS API, GetFederationToken"
    ),
    "sts:GetSessionToken": Minting(
        life=timedelta(hours=36), deny="sts:Get*Token", source="STS API, GetSessionToken"
    ),
    "sts:GetWebIdentityToken": Minting(
        life=timedelta(hours=1), deny="sts:Get*Token", source="STS API, GetWebIdentityToken"
    ),
    _BEARER: Minting(
        life=timedelta(hours=12), deny="sts:Get*Token", source="IAM User Guide, bearer tokens"
    ),
    "ecr:GetAuthorizationToken": Minting(
        life=timedelta(hours=12),
        deny="ecr:GetAuthorizationToken",
        source="ECR API, GetAuthorizationToken",
    ),
    "ecr-public:GetAuthorizationToken": Minting(
        life=timedelta(hours=12),
        deny="ecr-public:GetAuthorizationToken",
        source="ECR Public API, GetAuthorizationToken",
        needs=(_BEARER,),
    ),
    "codeartifact:GetAuthorizationToken": Minting(
        life=timedelta(hours=12),
        deny="codeartifact:GetAuthorizationToken",
        source="CodeArtifact API, GetAuthorizationToken",
        needs=(_BEARER,),
    ),
    "redshift:GetClusterCredentials": Minting(
        life=timedelta(hours=1),
        deny="redshift:GetClusterCred*",
        source="Redshift API, GetClusterCredentials",
    ),
    "redshift:GetClusterCredentialsWithIAM": Minting(
        life=timedelta(hours=1),
        deny="redshift:GetClusterCred*",
        source="Redshift API, GetClusterCredentialsWithIAM",
    ),
    "redshift-serverless:GetCredentials": Minting(
        life=timedelta(hours=1),
        deny="redshift-serverless:GetCredentials",
        source="Redshift Serverless API, GetCredentials",
    ),
    "s3:GetDataAccess": Minting(
        life=timedelta(hours=12), deny="s3:GetDataAccess", source="S3 Control API, GetDataAccess"
    ),
    "lakeformation:GetTemporaryGlueTableCredentials": Minting(
        life=timedelta(hours=12),
        deny="lakeformation:GetTemp*",
        source="Lake Formation API, GetTemporaryGlueTableCredentials",
    ),
    "emr-containers:GetManagedEndpointSessionCredentials": Minting(
        life=timedelta(hours=12),
        deny="emr-containers:GetManaged*",
        source="EMR on EKS API, GetManagedEndpointSessionCredentials",
    ),
    "sagemaker:CreatePresignedDomainUrl": Minting(
        life=timedelta(hours=12),
        deny="sagemaker:CreatePresigned*",
        source="SageMaker API, CreatePresignedDomainUrl",
    ),
    "cognito-identity:GetOpenIdTokenForDeveloperIdentity": Minting(
        life=timedelta(hours=24),
        deny="cognito-identity:GetOpenIdTokenFor*",
        source="Cognito Identity API, GetOpenIdTokenForDeveloperIdentity",
    ),
    "ssm:StartSession": Minting(
        life=ENDLESS, deny="ssm:StartSession", source="Systems Manager User Guide, session length"
    ),
    "ssm:ResumeSession": Minting(
        life=ENDLESS, deny="ssm:ResumeSession", source="Systems Manager API, ResumeSession"
    ),
    "ecs:ExecuteCommand": Minting(
        life=ENDLESS, deny="ecs:ExecuteCommand", source="ECS Developer Guide, ECS Exec"
    ),
    "rds-db:connect": Minting(
        life=ENDLESS, deny="rds-db:connect", source="RDS User Guide, IAM database authentication"
    ),
    "iam:CreateAccessKey": Minting(
        life=ENDLESS, deny="iam:CreateAccessKey", source="IAM API, CreateAccessKey"
    ),
    "iam:CreateLoginProfile": Minting(
        life=ENDLESS, deny="iam:CreateLoginProfile", source="IAM API, CreateLoginProfile"
    ),
    "iam:CreateServiceSpecificCredential": Minting(
        life=ENDLESS,
        deny="iam:CreateServiceSpecific*",
        source="IAM API, CreateServiceSpecificCredential",
    ),
}


def denied_calls(allows: Iterable[str]) -> list[str]:
    """The action patterns the session policy denies, sorted.

    A pattern that covers an allowed call is replaced by the other calls of the table it covered.

    Raises:
        AskedWrongly: `unknown_allow`.
    """
    opened = _opened(allows)
    split = {MINTING[call].deny for call in opened}
    denied = {row.deny for row in MINTING.values() if row.deny not in split}
    denied |= {call for call, row in MINTING.items() if row.deny in split and call not in opened}
    return sorted(denied)


def longest_life(allows: Iterable[str]) -> timedelta:
    """How long what these calls hand out may live; zero for none. Raises `unknown_allow`."""
    return max((MINTING[call].life for call in _opened(allows)), default=timedelta(0))


def _opened(allows: Iterable[str]) -> frozenset[str]:
    opened: set[str] = set()
    for call in allows:
        if call not in MINTING:
            raise AskedWrongly(
                "unknown_allow",
                f"expected a token-minting call such as `ecr:GetAuthorizationToken`, got "
                f"`{call[:80]}`",
                "the calls a role may open are listed in docs/connectors/aws.md",
            )
        opened |= {call, *MINTING[call].needs}
    return frozenset(opened)
