"""Documents, writes, transforms, bulk writes, times."""

import datetime
import math
import time

from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.vector import Vector

from harness import PROJECT, client, equal, fails, fresh, fresh_id, ids, item

UTC = datetime.timezone.utc
DATABASE = f"projects/{PROJECT}/databases/(default)"


@item("documents: create, get, times, missing; ALREADY_EXISTS")
def _():
    doc = fresh().document("a")
    equal(doc.get().exists, False)
    written = doc.create({"n": 1})
    snapshot = doc.get()
    equal(snapshot.to_dict(), {"n": 1})
    equal(snapshot.create_time, snapshot.update_time)
    equal(snapshot.update_time, written.update_time)
    assert snapshot.read_time >= snapshot.update_time
    fails(exceptions.AlreadyExists, doc.create, {"n": 2})


@item("documents: set, merge, update by paths, delete of fields, NOT_FOUND")
def _():
    doc = fresh().document("a")
    fails(exceptions.NotFound, doc.update, {"n": 1})
    doc.set({"a": 1, "m": {"x": 1, "y": 2}})
    doc.set({"m": {"y": 3, "z": 4}, "b": 2}, merge=True)
    equal(doc.get().to_dict(), {"a": 1, "b": 2, "m": {"x": 1, "y": 3, "z": 4}})
    doc.set({"a": 9, "m": {"x": 8, "y": 0}}, merge=["a", "m.x"])
    equal(doc.get().to_dict(), {"a": 9, "b": 2, "m": {"x": 8, "y": 3, "z": 4}})
    doc.update({"m.y": firestore.DELETE_FIELD, "m.new": {"deep": [1]}, "`dotted.name`": 5})
    equal(doc.get().to_dict(), {"a": 9, "b": 2, "m": {"x": 8, "z": 4, "new": {"deep": [1]}}, "dotted.name": 5})
    equal(doc.get(["m.z", "b"]).to_dict(), {"b": 2, "m": {"z": 4}})


@item("documents: preconditions: exists and update times")
def _():
    doc = fresh().document("a")
    first = doc.set({"n": 1}).update_time
    second = doc.update({"n": 2}, client.write_option(last_update_time=first)).update_time
    assert second > first
    stale = client.write_option(last_update_time=first)
    fails(exceptions.FailedPrecondition, doc.update, {"n": 3}, stale)
    fails(exceptions.FailedPrecondition, doc.delete, stale)
    equal(doc.get().get("n"), 2)
    doc.delete(client.write_option(last_update_time=second))
    fails(exceptions.NotFound, doc.delete, client.write_option(exists=True))
    doc.delete()


@item("documents: get_all, lists of documents (missing ones too) and of collections")
def _():
    c = fresh()
    c.document("b").set({"n": 1})
    client.document(f"{c.id}/a/s/x").set({"n": 2})
    client.document(f"{c.id}/a/t/y/u/z").set({"n": 3})
    found = {s.id: s.exists for s in client.get_all([c.document("b"), c.document("a")])}
    equal(found, {"a": False, "b": True})
    equal(ids(c.list_documents(page_size=1)), ["a", "b"])
    equal(ids(c.document("a").collections()), ["s", "t"])
    assert c.id in ids(client.collections())


@item("documents: values come back as they were, at their extremes")
def _():
    c = fresh()
    doc = c.document("a")
    data = {
        "max": 2**63 - 1, "min": -(2**63), "above": 2**53 + 1, "double": 0.1, "whole": 1.0, "huge": 1.7976931348623157e308, "least": 5e-324,
        "inf": math.inf, "none": None, "yes": True, "empty": "", "text": "é文😀\u0001", "bytes": bytes(range(256)), "no_bytes": b"",
        "list": [], "mixed": [1, 1.0, "1", None, {"x": []}], "map": {}, "nested": {"a": {"b": {"c": []}}}, "point": firestore.GeoPoint(90, -180),
        "first": datetime.datetime(1, 1, 1, tzinfo=UTC), "time": datetime.datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC), "reference": client.document("a/b/c/d"),
        "vector": Vector([1.0, -0.5, 5e-324]), "$timestamp": {"$int": 1}, "k" * 1500: 1,
    }
    doc.set(data)
    got = doc.get().to_dict()
    equal(set(got), set(data))
    for name, value in data.items():
        equal(got[name], value, name)
        # Times come back as the client's own kind of datetime.
        if name not in ("first", "time"):
            equal(type(got[name]), type(value), name)
    doc.set({"nan": math.nan, "zero": -0.0})
    got = doc.get().to_dict()
    assert math.isnan(got["nan"]) and math.copysign(1, got["zero"]) == -1


@item("batch: all or nothing, in order")
def _():
    c = fresh()
    c.document("there").set({"n": 0})
    for second in (lambda b: b.create(c.document("there"), {}), lambda b: b.update(c.document("missing"), {"n": 1})):
        batch = client.batch()
        batch.set(c.document("first"), {"n": 1})
        second(batch)
        fails((exceptions.AlreadyExists, exceptions.NotFound), batch.commit)
        equal(ids(c.stream()), ["there"])
    batch = client.batch()
    batch.create(c.document("a"), {"n": 1})
    batch.update(c.document("a"), {"n": firestore.Increment(4)})
    batch.delete(c.document("there"))
    equal(len(batch.commit()), 3)
    equal([s.to_dict() for s in c.stream()], [{"n": 5}])


@item("transforms: server time, increment, maximum, minimum, array union and remove")
def _():
    doc = fresh().document("a")
    doc.set({"n": 1, "high": 5, "low": 5, "l": [1, 2, 1], "d": 0.5})
    before = datetime.datetime.now(UTC) - datetime.timedelta(seconds=2)
    written = doc.update({
        "at": firestore.SERVER_TIMESTAMP, "m.at": firestore.SERVER_TIMESTAMP, "n": firestore.Increment(2), "d": firestore.Increment(1),
        "high": firestore.Maximum(7), "low": firestore.Minimum(7), "new": firestore.Increment(3), "l": firestore.ArrayUnion([3, 2]),
    })
    data = doc.get().to_dict()
    at = data.pop("at")
    equal(data.pop("m"), {"at": at})
    assert before < at <= written.update_time
    equal(data, {"n": 3, "d": 1.5, "high": 7, "low": 5, "new": 3, "l": [1, 2, 1, 3]})
    doc.update({"l": firestore.ArrayRemove([1, 9]), "n": firestore.Maximum(3.5), "top": firestore.Increment(2**63 - 1)})
    doc.update({"top": firestore.Increment(1)})
    data = doc.get().to_dict()
    equal((data["l"], data["n"], data["top"]), ([2, 3], 3.5, 2**63 - 1))


@item("bulk writer: hundreds of writes, failures named")
def _():
    c = fresh()
    c.document("d5").set({"taken": True})
    writer = client.bulk_writer()
    failed = []
    writer.on_write_error(lambda failure, _writer: failed.append((failure.operation.reference.id, failure.code)) and False)
    for n in range(200):
        writer.create(c.document(f"d{n}"), {"n": n})
    writer.update(c.document("missing"), {"n": 1})
    writer.close()
    equal(sorted(failed), [("d5", 6), ("missing", 5)])
    equal(c.count().get()[0][0].value, 200)


@item("recursive delete: a document with all below it")
def _():
    c = fresh()
    for path in ("a", "a/s/1", "a/s/1/t/2", "b/s/3", "b"):
        client.document(f"{c.id}/{path}").set({"path": path})
    equal(client.recursive_delete(c.document("a")), 3)
    equal(ids(c.list_documents()), ["b"])
    equal(client.recursive_delete(c), 2)
    equal(ids(c.list_documents()), [])


@item("calls: BatchWrite, CreateDocument, UpdateDocument, DeleteDocument, ListDocuments, ListCollectionIds")
def _():
    api = client._firestore_api
    owner = {"metadata": [("authorization", "Bearer owner"), ("google-cloud-resource-prefix", DATABASE)]}
    c = fresh_id()
    documents = f"{DATABASE}/documents"
    one = {"fields": {"n": types.Value(integer_value=1)}}
    made = api.create_document({"parent": documents, "collection_id": c, "document": one, "document_id": "a"}, **owner)
    equal(made.name, f"{documents}/{c}/a")
    missing = types.Write(update={"name": f"{documents}/{c}/none"}, current_document={"exists": True})
    answer = api.batch_write({"database": DATABASE, "writes": [missing, types.Write(update={"name": f"{documents}/{c}/b", **one})]}, **owner)
    equal([status.code for status in answer.status], [5, 0])
    updated = api.update_document({"document": {"name": f"{documents}/{c}/b", "fields": {"m": types.Value(string_value="x")}}, "update_mask": {"field_paths": ["m"]}}, **owner)
    equal(sorted(updated.fields), ["m", "n"])
    equal([d.name[-1] for d in api.list_documents({"parent": documents, "collection_id": c, "page_size": 1}, **owner)], ["a", "b"])
    assert c in list(api.list_collection_ids({"parent": documents, "page_size": 50}, **owner))
    api.delete_document({"name": f"{documents}/{c}/a"}, **owner)
    fails(exceptions.NotFound, api.get_document, {"name": f"{documents}/{c}/a"}, **owner)
    fails(exceptions.NotFound, api.delete_document, {"name": f"{documents}/{c}/a", "current_document": {"exists": True}}, **owner)


@item("calls: the Write stream")
def _():
    api = client._firestore_api
    c = fresh_id()
    name = f"{DATABASE}/documents/{c}/a"
    requests = [types.WriteRequest(database=DATABASE)]
    token = None

    def feed():
        yield requests[0]
        while not token:
            time.sleep(0.005)
        write = types.Write(update={"name": name, "fields": {"n": types.Value(integer_value=3)}})
        yield types.WriteRequest(database=DATABASE, stream_token=token, writes=[write])
        while not done:
            time.sleep(0.005)

    done = False
    answers = iter(api.write(requests=feed(), metadata=[("google-cloud-resource-prefix", DATABASE)]))
    token = next(answers).stream_token
    answer = next(answers)
    equal(len(answer.write_results), 1)
    done = True
    equal(client.document(f"{c}/a").get().get("n"), 3)


@item("times: a no-op keeps the update time; a read at a past time sees that time")
def _():
    c = fresh()
    doc = c.document("a")
    first = doc.set({"n": 1}).update_time
    equal(doc.set({"n": 1}).update_time, first)
    time.sleep(0.01)
    doc.set({"n": 2})
    c.document("b").set({"n": 3})
    equal(doc.get(read_time=first).to_dict(), {"n": 1})
    equal([s.to_dict() for s in c.stream(read_time=first)], [{"n": 1}])
    equal(ids(c.list_documents(read_time=first)), ["a"])
    equal(c.count().get(read_time=first)[0][0].value, 1)
    equal([s.to_dict() for s in client.get_all([doc], read_time=first)], [{"n": 1}])
    equal(doc.get().to_dict(), {"n": 2})
    future = datetime.datetime.now(UTC) + datetime.timedelta(hours=1)
    fails(exceptions.InvalidArgument, doc.get, read_time=future)
    past = datetime.datetime.now(UTC) - datetime.timedelta(days=8)
    fails(exceptions.FailedPrecondition, doc.get, read_time=past)


@item("limits: depth, size, reserved names, nested arrays, ids")
def _():
    c = fresh()
    deep = 1
    for _ in range(21):
        deep = {"m": deep}
    fails(exceptions.InvalidArgument, c.document("a").set, {"v": deep})
    c.document("a").set({"v": deep["m"]})
    fails(exceptions.InvalidArgument, c.document("a").set, {"s": "x" * 1_048_577})
    fails(exceptions.InvalidArgument, c.document("a").set, {"__name__x__": 1})
    fails(exceptions.InvalidArgument, c.document("a").set, {"l": [[1]]})
    fails(exceptions.InvalidArgument, c.document("__x__").set, {})
    fails(exceptions.InvalidArgument, c.document("a" * 1501).set, {})
    c.document("__id7__").set({"n": 7})
    equal(ids(c.stream()), ["__id7__", "a"])
