"""The kinds of roles on AWS, and what AWS bounds of each. Whoever names one takes it from here.

Imports no cloud client: settings are read where the `aws` extra is not installed.
"""

from datetime import timedelta

IAM_ROLE = "iam-role"
PERMISSION_SET = "permission-set"
# Identity Center: the session duration of a permission set (API Reference, CreatePermissionSet).
SHORTEST_SET_SESSION, LONGEST_SET_SESSION = timedelta(minutes=15), timedelta(hours=12)
