"""An S3 server on loopback: moto's, which checks every request's signature, with one user and one bucket."""

import json
import threading
from contextlib import contextmanager

import boto3
from moto import settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "models"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, *_):
        pass


class Store:
    """The server's bucket; `environment` is what a client needs to be let in."""

    def __init__(self):
        self.application = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.cutting = None

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        at = {"endpoint_url": self.address, "region_name": "us-east-1"}
        iam = boto3.client("iam", aws_access_key_id="root", aws_secret_access_key="root", **at)  # noqa: S106
        iam.create_user(UserName="koner")
        iam.put_user_policy(UserName="koner", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        key = iam.create_access_key(UserName="koner")["AccessKey"]
        # From here on, nobody is let in without.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        self.environment = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.s3 = boto3.client(
            "s3", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], **at
        )
        self.s3.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_):
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _answer(self, environment, start):
        body = b"".join(self.application(environment, start))
        cut = environment["REQUEST_METHOD"] == "GET" and environment["PATH_INFO"] == self.cutting
        # With the whole one's length in the headers.
        return [body[: len(body) // 2] if cut else body]

    def key_of(self, content):
        """The key of the object that holds this content."""
        for key in self.keys():
            if self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content:
                return key
        raise KeyError(content)

    @contextmanager
    def missing(self, content):
        """Has no object with this content meanwhile."""
        key = self.key_of(content)
        self.s3.delete_object(Bucket=BUCKET, Key=key)
        try:
            yield
        finally:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    @contextmanager
    def damaged(self, content):
        """Has one byte of the object with this content wrong meanwhile."""
        key = self.key_of(content)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
        try:
            yield
        finally:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    @contextmanager
    def cut(self, content):
        """Breaks each download of the object with this content off halfway meanwhile."""
        self.cutting = f"/{BUCKET}/{self.key_of(content)}"
        try:
            yield
        finally:
            self.cutting = None

    def keys(self):
        """The keys of all objects."""
        return {found["Key"] for found in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
