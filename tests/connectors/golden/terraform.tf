# The roles and policies Tidegate needs on AWS, made by `tidegate onboard aws`.
# Apply it once in each account: what belongs to another account is not made there.
# serve: no identity: it calls nothing on AWS.

variable "opener_principal" {
  description = "The Tidegate that opens: the ARN of the IAM principal it runs as"
  type        = string
}

variable "closer_principal" {
  description = "The Tidegate that closes: the ARN of the IAM principal it runs as"
  type        = string
}

variable "external_id" {
  description = "Asked of both when they come from another account; empty for none"
  type        = string
  default     = ""
}

data "aws_caller_identity" "here" {}

locals {
  told  = { StringEquals = { "sts:ExternalId" = var.external_id } }
  asked = var.external_id == "" ? {} : local.told
}

resource "aws_iam_role" "opener_111122223333" {
  count = data.aws_caller_identity.here.account_id == "111122223333" ? 1 : 0
  name  = "TidegateOpener"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.opener_principal }
      Action    = "sts:AssumeRole"
      Condition = local.asked
    }]
  })
}

resource "aws_iam_role_policy" "opener_111122223333" {
  count  = data.aws_caller_identity.here.account_id == "111122223333" ? 1 : 0
  name   = "TidegateOpener"
  role   = aws_iam_role.opener_111122223333[0].id
  policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TidegateHandedRoles",
      "Effect": "Allow",
      "Action": [
        "iam:GetRole",
        "sts:AssumeRole",
        "sts:SetSourceIdentity",
        "sts:TagSession"
      ],
      "Resource": [
        "arn:aws:iam::111122223333:role/tidegate/admin",
        "arn:aws:iam::111122223333:role/tidegate/reader"
      ]
    },
    {
      "Sid": "TidegateItself",
      "Effect": "Allow",
      "Action": [
        "iam:SimulatePrincipalPolicy"
      ],
      "Resource": [
        "arn:aws:iam::111122223333:role/TidegateOpener"
      ]
    }
  ]
}
POLICY
}

resource "aws_iam_role" "closer_111122223333" {
  count = data.aws_caller_identity.here.account_id == "111122223333" ? 1 : 0
  name  = "TidegateCloser"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.closer_principal }
      Action    = "sts:AssumeRole"
      Condition = local.asked
    }]
  })
}

resource "aws_iam_role_policy" "closer_111122223333" {
  count  = data.aws_caller_identity.here.account_id == "111122223333" ? 1 : 0
  name   = "TidegateCloser"
  role   = aws_iam_role.closer_111122223333[0].id
  policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TidegateHandedRoles",
      "Effect": "Allow",
      "Action": [
        "iam:DeleteRolePolicy",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:PutRolePolicy"
      ],
      "Resource": [
        "arn:aws:iam::111122223333:role/tidegate/admin",
        "arn:aws:iam::111122223333:role/tidegate/reader"
      ]
    },
    {
      "Sid": "TidegateAnything",
      "Effect": "Allow",
      "Action": [
        "cloudtrail:LookupEvents",
        "iam:GetAccountAuthorizationDetails"
      ],
      "Resource": [
        "*"
      ]
    },
    {
      "Sid": "TidegateIamUsersOfTheAccount",
      "Effect": "Allow",
      "Action": [
        "iam:GetLoginProfile",
        "iam:ListAccessKeys"
      ],
      "Resource": [
        "arn:aws:iam::111122223333:user/*"
      ]
    },
    {
      "Sid": "TidegateItself",
      "Effect": "Allow",
      "Action": [
        "iam:SimulatePrincipalPolicy"
      ],
      "Resource": [
        "arn:aws:iam::111122223333:role/TidegateCloser"
      ]
    }
  ]
}
POLICY
}

resource "aws_iam_role" "opener_444455556666" {
  count = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name  = "TidegateOpener"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.opener_principal }
      Action    = "sts:AssumeRole"
      Condition = local.asked
    }]
  })
}

resource "aws_iam_role_policy" "opener_444455556666" {
  count  = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name   = "TidegateOpener"
  role   = aws_iam_role.opener_444455556666[0].id
  policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TidegateIdentityStoreUsers",
      "Effect": "Allow",
      "Action": [
        "identitystore:GetUserId"
      ],
      "Resource": [
        "arn:aws:identitystore::*:identitystore/d-1234567890",
        "arn:aws:identitystore:::user/*"
      ]
    },
    {
      "Sid": "TidegateInstancePermissionSetsAccounts",
      "Effect": "Allow",
      "Action": [
        "sso:CreateAccountAssignment",
        "sso:ListAccountAssignments"
      ],
      "Resource": [
        "arn:aws:sso:::account/111122223333",
        "arn:aws:sso:::instance/ssoins-1234567890abcdef",
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateInstance",
      "Effect": "Allow",
      "Action": [
        "sso:DescribeAccountAssignmentCreationStatus",
        "sso:ListAccountAssignmentsForPrincipal"
      ],
      "Resource": [
        "arn:aws:sso:::instance/ssoins-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateIdentityStoreUsersMemberships",
      "Effect": "Allow",
      "Action": [
        "identitystore:ListGroupMembershipsForMember"
      ],
      "Resource": [
        "arn:aws:identitystore::*:identitystore/d-1234567890",
        "arn:aws:identitystore:::membership/*",
        "arn:aws:identitystore:::user/*"
      ]
    },
    {
      "Sid": "TidegateItself",
      "Effect": "Allow",
      "Action": [
        "iam:SimulatePrincipalPolicy"
      ],
      "Resource": [
        "arn:aws:iam::444455556666:role/TidegateOpener"
      ]
    },
    {
      "Sid": "TidegateSchedulesOfTidegateSGroup",
      "Effect": "Allow",
      "Action": [
        "scheduler:CreateSchedule",
        "scheduler:GetSchedule",
        "scheduler:UpdateSchedule"
      ],
      "Resource": [
        "arn:aws:scheduler:eu-central-1:444455556666:schedule/tidegate/tidegate-*"
      ]
    },
    {
      "Sid": "TidegateTheScheduleSRole",
      "Effect": "Allow",
      "Action": [
        "iam:PassRole"
      ],
      "Resource": [
        "arn:aws:iam::444455556666:role/TidegateSchedule"
      ],
      "Condition": {
        "StringEquals": {
          "iam:PassedToService": "scheduler.amazonaws.com"
        }
      }
    }
  ]
}
POLICY
}

resource "aws_iam_role" "closer_444455556666" {
  count = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name  = "TidegateCloser"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.closer_principal }
      Action    = "sts:AssumeRole"
      Condition = local.asked
    }]
  })
}

resource "aws_iam_role_policy" "closer_444455556666" {
  count  = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name   = "TidegateCloser"
  role   = aws_iam_role.closer_444455556666[0].id
  policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TidegateInstancePermissionSetsAccounts",
      "Effect": "Allow",
      "Action": [
        "sso:DeleteAccountAssignment",
        "sso:ListAccountAssignments",
        "sso:ProvisionPermissionSet"
      ],
      "Resource": [
        "arn:aws:sso:::account/111122223333",
        "arn:aws:sso:::instance/ssoins-1234567890abcdef",
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateInstance",
      "Effect": "Allow",
      "Action": [
        "sso:DescribeAccountAssignmentCreationStatus",
        "sso:DescribeAccountAssignmentDeletionStatus",
        "sso:DescribePermissionSetProvisioningStatus",
        "sso:ListAccountAssignmentCreationStatus",
        "sso:ListAccountAssignmentsForPrincipal"
      ],
      "Resource": [
        "arn:aws:sso:::instance/ssoins-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateIdentityStoreUsersMemberships",
      "Effect": "Allow",
      "Action": [
        "identitystore:ListGroupMembershipsForMember"
      ],
      "Resource": [
        "arn:aws:identitystore::*:identitystore/d-1234567890",
        "arn:aws:identitystore:::membership/*",
        "arn:aws:identitystore:::user/*"
      ]
    },
    {
      "Sid": "TidegateIdentityStoreUsers",
      "Effect": "Allow",
      "Action": [
        "identitystore:DescribeUser"
      ],
      "Resource": [
        "arn:aws:identitystore::*:identitystore/d-1234567890",
        "arn:aws:identitystore:::user/*"
      ]
    },
    {
      "Sid": "TidegateInstancePermissionSets",
      "Effect": "Allow",
      "Action": [
        "sso:DeleteInlinePolicyFromPermissionSet",
        "sso:DescribePermissionSet",
        "sso:GetInlinePolicyForPermissionSet",
        "sso:PutInlinePolicyToPermissionSet"
      ],
      "Resource": [
        "arn:aws:sso:::instance/ssoins-1234567890abcdef",
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateInstanceAccounts",
      "Effect": "Allow",
      "Action": [
        "sso:ListPermissionSetsProvisionedToAccount"
      ],
      "Resource": [
        "arn:aws:sso:::account/111122223333",
        "arn:aws:sso:::instance/ssoins-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateInstanceAllItsPermissionSets",
      "Effect": "Allow",
      "Action": [
        "sso:DescribePermissionSet",
        "sso:GetInlinePolicyForPermissionSet",
        "sso:ListCustomerManagedPolicyReferencesInPermissionSet",
        "sso:ListManagedPoliciesInPermissionSet"
      ],
      "Resource": [
        "arn:aws:sso:::instance/ssoins-1234567890abcdef",
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/*"
      ]
    },
    {
      "Sid": "TidegateInstanceAllItsPermissionSetsAccounts",
      "Effect": "Allow",
      "Action": [
        "sso:ListAccountAssignments"
      ],
      "Resource": [
        "arn:aws:sso:::account/111122223333",
        "arn:aws:sso:::instance/ssoins-1234567890abcdef",
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/*"
      ]
    },
    {
      "Sid": "TidegateSchedulesOfTidegateSGroup",
      "Effect": "Allow",
      "Action": [
        "scheduler:DeleteSchedule",
        "scheduler:GetSchedule"
      ],
      "Resource": [
        "arn:aws:scheduler:eu-central-1:444455556666:schedule/tidegate/tidegate-*"
      ]
    },
    {
      "Sid": "TidegateTidegateSScheduleGroup",
      "Effect": "Allow",
      "Action": [
        "scheduler:GetScheduleGroup"
      ],
      "Resource": [
        "arn:aws:scheduler:eu-central-1:444455556666:schedule-group/tidegate"
      ]
    },
    {
      "Sid": "TidegateTheScheduleSRole",
      "Effect": "Allow",
      "Action": [
        "iam:GetRole",
        "iam:SimulatePrincipalPolicy"
      ],
      "Resource": [
        "arn:aws:iam::444455556666:role/TidegateSchedule"
      ]
    },
    {
      "Sid": "TidegateAnything",
      "Effect": "Allow",
      "Action": [
        "sso:ListInstances"
      ],
      "Resource": [
        "*"
      ]
    },
    {
      "Sid": "TidegateItself",
      "Effect": "Allow",
      "Action": [
        "iam:SimulatePrincipalPolicy"
      ],
      "Resource": [
        "arn:aws:iam::444455556666:role/TidegateCloser"
      ]
    }
  ]
}
POLICY
}

resource "aws_iam_role" "schedule_444455556666" {
  count              = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name               = "TidegateSchedule"
  assume_role_policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Service": "scheduler.amazonaws.com"
      },
      "Action": "sts:AssumeRole",
      "Condition": {
        "StringEquals": {
          "aws:SourceAccount": "444455556666",
          "aws:SourceArn": "arn:aws:scheduler:eu-central-1:444455556666:schedule-group/tidegate"
        }
      }
    }
  ]
}
POLICY
}

resource "aws_iam_role_policy" "schedule_444455556666" {
  count  = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name   = "TidegateSchedule"
  role   = aws_iam_role.schedule_444455556666[0].id
  policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TidegateInstancePermissionSetsAccounts",
      "Effect": "Allow",
      "Action": [
        "sso:DeleteAccountAssignment"
      ],
      "Resource": [
        "arn:aws:sso:::account/111122223333",
        "arn:aws:sso:::instance/ssoins-1234567890abcdef",
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef"
      ]
    },
    {
      "Sid": "TidegateTheDeadLetterQueue",
      "Effect": "Allow",
      "Action": [
        "sqs:SendMessage"
      ],
      "Resource": [
        "arn:aws:sqs:eu-central-1:444455556666:tidegate-schedule-dead-letters"
      ]
    }
  ]
}
POLICY
}

resource "aws_scheduler_schedule_group" "tidegate_444455556666" {
  count = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name  = "tidegate"
}

resource "aws_sqs_queue" "dead_letters_444455556666" {
  count                     = data.aws_caller_identity.here.account_id == "444455556666" ? 1 : 0
  name                      = "tidegate-schedule-dead-letters"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

output "trust_of_handed_roles" {
  description = "The trust policy of each role that is handed out"
  value       = <<POLICY
[
  {
    "role": "arn:aws:iam::111122223333:role/tidegate/admin",
    "policy": {
      "Version": "2012-10-17",
      "Statement": [
        {
          "Sid": "TidegateOpens",
          "Effect": "Allow",
          "Principal": {
            "AWS": "arn:aws:iam::111122223333:role/TidegateOpener"
          },
          "Action": [
            "sts:AssumeRole",
            "sts:SetSourceIdentity",
            "sts:TagSession"
          ],
          "Condition": {
            "StringLike": {
              "aws:RequestTag/tidegate-grant": [
                "gr_*",
                "control-gr_*"
              ],
              "sts:SourceIdentity": [
                "gr_*",
                "control-gr_*"
              ]
            }
          }
        }
      ]
    }
  },
  {
    "role": "arn:aws:iam::111122223333:role/tidegate/reader",
    "policy": {
      "Version": "2012-10-17",
      "Statement": [
        {
          "Sid": "TidegateOpens",
          "Effect": "Allow",
          "Principal": {
            "AWS": "arn:aws:iam::111122223333:role/TidegateOpener"
          },
          "Action": [
            "sts:AssumeRole",
            "sts:SetSourceIdentity",
            "sts:TagSession"
          ],
          "Condition": {
            "StringLike": {
              "aws:RequestTag/tidegate-grant": [
                "gr_*",
                "control-gr_*"
              ],
              "sts:SourceIdentity": [
                "gr_*",
                "control-gr_*"
              ]
            }
          }
        }
      ]
    }
  }
]
POLICY
}
