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

# Life of what ends only when somebody removes it, and of what AWS states no end for.
ENDLESS = LONGEST_DURATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """A call that hands out something which works after the session that asked for it.

    Attributes:
        life: the longest life of what it hands out; ENDLESS when AWS sets no end.
        deny: the pattern by which the session policy denies it; may cover neighbours, and every
            neighbour that mints is a row too: opening one call keeps exactly the others closed.
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
    "sts:GetDelegatedAccessToken": Minting(
        life=ENDLESS, deny="sts:Get*Token", source="STS API, GetDelegatedAccessToken"
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
    "signin:AuthorizeOAuth2Access": Minting(
        life=timedelta(hours=12),
        deny="signin:*OAuth2*",
        source="Sign-In User Guide, login for local development",
    ),
    "signin:CreateOAuth2Token": Minting(
        life=timedelta(hours=12), deny="signin:*OAuth2*", source="Sign-In API, CreateOAuth2Token"
    ),
    "signin:CreateOAuth2TokenWithIAM": Minting(
        life=timedelta(hours=12),
        deny="signin:*OAuth2*",
        source="Sign-In API, CreateOAuth2TokenWithIAM",
    ),
    "ecr:GetAuthorizationToken": Minting(
        life=timedelta(hours=12), deny="ecr:GetAuth*", source="ECR API, GetAuthorizationToken"
    ),
    "ecr-public:GetAuthorizationToken": Minting(
        life=timedelta(hours=12),
        deny="ecr-public:GetAuth*",
        source="ECR Public API, GetAuthorizationToken",
        needs=(_BEARER,),
    ),
    "codeartifact:GetAuthorizationToken": Minting(
        life=timedelta(hours=12),
        deny="codeartifact:GetAuth*",
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
        deny="redshift-serverless:GetCred*",
        source="Redshift Serverless API, GetCredentials",
    ),
    "s3:GetDataAccess": Minting(
        life=timedelta(hours=12), deny="s3:GetDataAccess", source="S3 Control API, GetDataAccess"
    ),
    "s3express:CreateSession": Minting(
        life=timedelta(minutes=5), deny="s3express:CreateS*", source="S3 API, CreateSession"
    ),
    "lakeformation:GetTemporaryDataLocationCredentials": Minting(
        life=timedelta(hours=12),
        deny="lakeformation:GetTemp*",
        source="Lake Formation API, GetTemporaryDataLocationCredentials",
    ),
    "lakeformation:GetTemporaryGluePartitionCredentials": Minting(
        life=timedelta(hours=12),
        deny="lakeformation:GetTemp*",
        source="Lake Formation API, GetTemporaryGluePartitionCredentials",
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
    "elasticmapreduce:GetClusterSessionCredentials": Minting(
        life=ENDLESS,
        deny="elasticmapreduce:GetClusterS*",
        source="EMR API, GetClusterSessionCredentials",
    ),
    "sagemaker:CreatePresignedDomainUrl": Minting(
        life=timedelta(hours=12),
        deny="sagemaker:CreatePresigned*",
        source="SageMaker API, CreatePresignedDomainUrl",
    ),
    "sagemaker:CreatePresignedMlflowAppUrl": Minting(
        life=timedelta(hours=12),
        deny="sagemaker:CreatePresigned*",
        source="SageMaker API, CreatePresignedMlflowAppUrl",
    ),
    "sagemaker:CreatePresignedMlflowTrackingServerUrl": Minting(
        life=timedelta(hours=12),
        deny="sagemaker:CreatePresigned*",
        source="SageMaker API, CreatePresignedMlflowTrackingServerUrl",
    ),
    "sagemaker:CreatePresignedNotebookInstanceUrl": Minting(
        life=timedelta(hours=12),
        deny="sagemaker:CreatePresigned*",
        source="SageMaker API, CreatePresignedNotebookInstanceUrl",
    ),
    "sagemaker:StartSession": Minting(
        life=ENDLESS, deny="sagemaker:StartSession", source="SageMaker API, StartSession"
    ),
    "cognito-identity:GetCredentialsForIdentity": Minting(
        life=timedelta(hours=1),
        deny="cognito-identity:Get*For*",
        source="Cognito Identity API, GetCredentialsForIdentity",
    ),
    "cognito-identity:GetOpenIdTokenForDeveloperIdentity": Minting(
        life=timedelta(hours=24),
        deny="cognito-identity:Get*For*",
        source="Cognito Identity API, GetOpenIdTokenForDeveloperIdentity",
    ),
    "ssm:GetAccessToken": Minting(
        life=ENDLESS, deny="ssm:GetAccessToken", source="Systems Manager API, GetAccessToken"
    ),
    "ssm:StartSession": Minting(
        life=ENDLESS, deny="ssm:StartSession", source="Systems Manager User Guide, session length"
    ),
    "ssm:ResumeSession": Minting(
        life=ENDLESS, deny="ssm:ResumeSession", source="Systems Manager API, ResumeSession"
    ),
    "ec2-instance-connect:OpenTunnel": Minting(
        life=timedelta(hours=1),
        deny="ec2-instance-connect:*",
        source="EC2 User Guide, EC2 Instance Connect Endpoint",
    ),
    "ec2-instance-connect:SendSSHPublicKey": Minting(
        life=ENDLESS,
        deny="ec2-instance-connect:*",
        source="EC2 Instance Connect API, SendSSHPublicKey",
    ),
    "ec2-instance-connect:SendSerialConsoleSSHPublicKey": Minting(
        life=ENDLESS,
        deny="ec2-instance-connect:*",
        source="EC2 Instance Connect API, SendSerialConsoleSSHPublicKey",
    ),
    "ecs:ExecuteCommand": Minting(
        life=ENDLESS, deny="ecs:Exec*", source="ECS Developer Guide, ECS Exec"
    ),
    "rds-db:connect": Minting(
        life=ENDLESS, deny="rds-db:connect", source="RDS User Guide, IAM database authentication"
    ),
    "dsql:DbConnect": Minting(
        life=timedelta(hours=1),
        deny="dsql:DbConnect*",
        source="Aurora DSQL User Guide, quotas: connection duration",
    ),
    "dsql:DbConnectAdmin": Minting(
        life=timedelta(hours=1),
        deny="dsql:DbConnect*",
        source="Aurora DSQL User Guide, quotas: connection duration",
    ),
    "elasticache:Connect": Minting(
        life=timedelta(hours=12),
        deny="elasticache:Connect",
        source="ElastiCache User Guide, authenticating with IAM",
    ),
    "memorydb:Connect": Minting(
        life=timedelta(hours=12),
        deny="memorydb:Connect",
        source="MemoryDB Developer Guide, authenticating with IAM",
    ),
    "iot:CreateCertificateFromCsr": Minting(
        life=ENDLESS, deny="iot:Create*Cert*", source="IoT API, CreateCertificateFromCsr"
    ),
    "iot:CreateKeysAndCertificate": Minting(
        life=ENDLESS, deny="iot:Create*Cert*", source="IoT API, CreateKeysAndCertificate"
    ),
    # `ate` is in create and update, not in delete: a holder may still take keys away.
    "iam:CreateAccessKey": Minting(
        life=ENDLESS, deny="iam:*ateAccessKey", source="IAM API, CreateAccessKey"
    ),
    "iam:UpdateAccessKey": Minting(
        life=ENDLESS, deny="iam:*ateAccessKey", source="IAM API, UpdateAccessKey"
    ),
    "iam:CreateLoginProfile": Minting(
        life=ENDLESS, deny="iam:*ateLoginProfile", source="IAM API, CreateLoginProfile"
    ),
    "iam:UpdateLoginProfile": Minting(
        life=ENDLESS, deny="iam:*ateLoginProfile", source="IAM API, UpdateLoginProfile"
    ),
    "iam:CreateServiceSpecificCredential": Minting(
        life=ENDLESS, deny="iam:CreateServiceSp*", source="IAM API, CreateServiceSpecificCredential"
    ),
    "iam:ResetServiceSpecificCredential": Minting(
        life=ENDLESS, deny="iam:ResetS*", source="IAM API, ResetServiceSpecificCredential"
    ),
    # An update can switch a key on again, or set a provider's certificate to one's own.
    "iam:UpdateServiceSpecificCredential": Minting(
        life=ENDLESS, deny="iam:UpdateS*", source="IAM API, UpdateServiceSpecificCredential"
    ),
    "iam:UpdateSAMLProvider": Minting(
        life=ENDLESS, deny="iam:UpdateS*", source="IAM API, UpdateSAMLProvider"
    ),
    "iam:UpdateSSHPublicKey": Minting(
        life=ENDLESS, deny="iam:UpdateS*", source="IAM API, UpdateSSHPublicKey"
    ),
    "iam:UpdateSigningCertificate": Minting(
        life=ENDLESS, deny="iam:UpdateS*", source="IAM API, UpdateSigningCertificate"
    ),
    "iam:UploadSSHPublicKey": Minting(
        life=ENDLESS, deny="iam:Upload*", source="IAM API, UploadSSHPublicKey"
    ),
    "iam:UploadServerCertificate": Minting(
        life=ENDLESS, deny="iam:Upload*", source="IAM API, UploadServerCertificate"
    ),
    "iam:UploadSigningCertificate": Minting(
        life=ENDLESS, deny="iam:Upload*", source="IAM API, UploadSigningCertificate"
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
