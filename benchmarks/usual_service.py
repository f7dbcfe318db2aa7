"""The usual way to serve a token classifier, which `serving.py` compares with: Flask over transformers' pipeline.

gunicorn --worker-class gthread --threads 4 'benchmarks.usual_service:create_app("models/ner")'
"""

from flask import Flask, Response, jsonify, request
from transformers import pipeline


def create_app(folder: str) -> Flask:
    tagger = pipeline("token-classification", model=folder, aggregation_strategy="simple")
    app = Flask(__name__)

    @app.post("/infer")
    def infer() -> Response:
        text = request.get_json()["text"]
        return jsonify(input=text, result=[{**entity, "score": float(entity["score"])} for entity in tagger(text)])

    return app
