"""The documents that the page on the artifact store gives to a bucket, given to one; and its settings, which must exist."""

import json
import re
from pathlib import Path

import boto3

from service.settings import Settings
from tests.servers import S3
from worker.settings import WorkerSettings

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "artifact-store.md").read_text(encoding="utf-8")
DOCUMENTS = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)]


def test_every_setting_on_the_page_is_one() -> None:
    named = set(re.findall(r"FINEBITS_([A-Z0-9_]+)", PAGE))
    assert named
    assert named <= {name.upper() for name in (*Settings.model_fields, *WorkerSettings.model_fields)}


def test_the_defaults_on_the_page_are_the_defaults() -> None:
    told = re.findall(r"`FINEBITS_([A-Z_]+)` \((\d+)\)", PAGE)
    assert len(told) == 3
    for name, seconds in told:
        assert WorkerSettings.model_fields[name.lower()].default == float(seconds)


def test_a_bucket_takes_the_policy_and_the_lifecycle_rule(s3: S3) -> None:
    policy, lifecycle = DOCUMENTS
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    client.create_bucket(Bucket="my-bucket")
    client.put_bucket_lifecycle_configuration(Bucket="my-bucket", LifecycleConfiguration=lifecycle)
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket="my-bucket")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    client.put_bucket_policy(Bucket="my-bucket", Policy=json.dumps(policy))
    assert json.loads(client.get_bucket_policy(Bucket="my-bucket")["Policy"]) == policy
