"""A stand-in for the part of AWS that Identity Center access runs through. Tells the truth.

It listens on 127.0.0.1, keeps everything in memory, and is for tests and the demo only. Real boto3
clients and the real `aws` command talk to it with `endpoint_url`. It imports nothing of `tidegate`,
and nothing there imports it.

    with tidegate_standin.start() as cloud:
        ids = cloud.admin.seed(users=[{"user_name": "ana"}], permission_sets=[{"name": "admin"}])
        boto3.client("sso-admin", endpoint_url=cloud.url, region_name="us-east-1", ...)

What was taken from which AWS document is said in the module of each service:

- `assignments`: IAM Identity Center API Reference (CreateAccountAssignment,
  DeleteAccountAssignment, Describe...Status, ListAccountAssignments,
  ListAccountAssignmentsForPrincipal); User Guide, "IAM Identity Center quotas".
- `permission_sets`: the same reference (PutInlinePolicyToPermissionSet, ProvisionPermissionSet,
  DescribePermissionSet, ...).
- `identity_store`: Identity Store API Reference.
- `accounts`: IAM Identity Center Portal API Reference (GetRoleCredentials); User Guide,
  "Understanding authentication sessions"; STS API Reference (AssumeRole, GetCallerIdentity);
  IAM API Reference (SimulatePrincipalPolicy, ...).
- `rights`, `policy`: IAM User Guide, "IAM JSON policy elements", "Policy evaluation logic";
  Organizations User Guide, "SCP evaluation"; IAM Identity Center User Guide, "Revoke active IAM
  role sessions created by permission sets" and "Delegated administration".
- `organizations`: Organizations API Reference; User Guide, "Quotas".
- `scheduler`: EventBridge Scheduler API Reference; User Guide, "Schedule types", "Using universal
  targets", "Configuring a dead-letter queue".
- `signing`: IAM User Guide, "Create a signed AWS API request".
- Shapes of every request, answer and error: botocore's service models.

Where the documents leave a choice, the harder case is played: a session acts on although its
assignment, even the last one in the account, is gone (AWS deletes the role with the last
assignment: option `role_goes_with_last_assignment`); a deletion for a person who is gone from the
identity store fails (option `delete_for_deleted_user`); the deletion of what is gone ends FAILED
(option `delete_of_missing`).

What it does not enforce: the age of a signature and the rate of calls (20 a second on AWS);
condition keys and policy variables beyond those in `policy` (it refuses such a document);
permissions boundaries, session policies, resource policies, permissions of IAM that Identity Center
needs on the management account; customer managed policies (listed, and no more) and boundaries of
permission sets;
propagation delay of IAM (what is provisioned acts at once); organizational units; that
ListAccountAssignmentsForPrincipal is documented for the management account only (option
`for_principal_from_management_only`); retries of a schedule's invocation, flexible windows, cron();
the dead-letter queue's own permissions; the console.
"""

from tidegate_standin.process import ACCOUNT, MANAGEMENT, Running, start

__all__ = ["ACCOUNT", "MANAGEMENT", "Running", "start"]
