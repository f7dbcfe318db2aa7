"""An S3 server (moto) on the loopback interface, with one user and one bucket; it checks all signatures."""

import json
import threading
from contextlib import contextmanager

import boto3
from moto import settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "models"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class QuietHandler(WSGIRequestHandler):
    """A request handler that logs nothing."""

    def log(self, *_):
        pass


class Store:
    """The server and its bucket; `environment` holds the variables that a client needs for access."""

    def __init__(self):
        self.application = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self._respond, threaded=True, request_handler=QuietHandler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.truncated_path = None

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        server = {"endpoint_url": self.address, "region_name": "us-east-1"}
        iam = boto3.client("iam", aws_access_key_id="root", aws_secret_access_key="root", **server)  # noqa: S106
        iam.create_user(UserName="koner")
        iam.put_user_policy(UserName="koner", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        key = iam.create_access_key(UserName="koner")["AccessKey"]
        # From here on, moto refuses requests without valid credentials.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        self.environment = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.s3 = boto3.client(
            "s3", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], **server
        )
        self.s3.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_):
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _respond(self, environment, start):
        body = b"".join(self.application(environment, start))
        is_truncated = environment["REQUEST_METHOD"] == "GET" and environment["PATH_INFO"] == self.truncated_path
        # The header Content-Length still holds the length of the whole body.
        return [body[: len(body) // 2] if is_truncated else body]

    def key_of(self, content):
        """Return the key of the object with this content."""
        for key in self.keys():
            if self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content:
                return key
        raise KeyError(content)

    @contextmanager
    def missing(self, content):
        """Remove the object with this content temporarily."""
        key = self.key_of(content)
        self.s3.delete_object(Bucket=BUCKET, Key=key)
        try:
            yield
        finally:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    @contextmanager
    def damaged(self, content):
        """Change one byte of the object with this content temporarily."""
        key = self.key_of(content)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
        try:
            yield
        finally:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    @contextmanager
    def truncated(self, content):
        """Abort every download of the object with this content halfway, temporarily."""
        self.truncated_path = f"/{BUCKET}/{self.key_of(content)}"
        try:
            yield
        finally:
            self.truncated_path = None

    def keys(self):
        """Return the keys of all objects."""
        return {item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
