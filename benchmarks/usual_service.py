"""The usual way to serve a token classifier, with which `serving.py` compares: Flask over transformers' pipeline.

gunicorn --worker-class gthread --threads 4 'benchmarks.usual_service:create_app("models/ner")'
"""

from flask import Flask, Response, jsonify, request
from transformers import pipeline


def create_app(folder: str) -> Flask:
    """Create the application that serves the model of a folder."""
    classify = pipeline("token-classification", model=folder, aggregation_strategy="simple")
    app = Flask(__name__)

    @app.post("/infer")
    def infer() -> Response:
        text = request.get_json()["text"]
        return jsonify(input=text, result=[{**entity, "score": float(entity["score"])} for entity in classify(text)])

    return app
