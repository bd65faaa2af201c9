"""on_snapshot for documents, queries and groups."""

from google.cloud.firestore_v1.base_query import FieldFilter

from harness import Watch, client, equal, fresh, fresh_id, ids, item


def kinds(changes):
    # The indexes that this client computes for them are its own affair (they are off by one).
    return [(change.type.name, change.document.id) for change in changes]


@item("on_snapshot: a document made, changed, deleted")
def _():
    doc = fresh().document("a")
    doc.set({"n": 0})
    seen = Watch(doc)
    equal([s.to_dict() for s in seen.next()[0]], [{"n": 0}])
    doc.update({"n": 1})
    equal([s.to_dict() for s in seen.next()[0]], [{"n": 1}])
    doc.delete()
    seen.until(lambda docs: not [d for d in docs if d.exists])
    doc.set({"n": 2})
    equal([s.to_dict() for s in seen.until(lambda docs: docs and docs[0].exists)[0]], [{"n": 2}])
    seen.stop()


@item("on_snapshot: a query: added, modified, moved, removed")
def _():
    c = fresh()
    c.document("b").set({"n": 2})
    c.document("a").set({"n": 1})
    seen = Watch(c.where(filter=FieldFilter("n", ">", 0)).order_by("n"))
    docs, changes, _time = seen.next()
    equal(ids(docs), ["a", "b"])
    c.document("c").set({"n": 1.5})
    equal(kinds(seen.next()[1]), [("ADDED", "c")])
    c.document("a").update({"n": 9})
    docs, changes, _time = seen.next()
    equal((ids(docs), kinds(changes)), (["c", "b", "a"], [("MODIFIED", "a")]))
    c.document("b").update({"n": -1})
    equal(kinds(seen.next()[1]), [("REMOVED", "b")])
    c.document("c").delete()
    equal(kinds(seen.next()[1]), [("REMOVED", "c")])
    seen.stop()


@item("on_snapshot: limits and groups")
def _():
    group = fresh_id("g")
    root = fresh()
    for n in (1, 2, 3):
        client.document(f"{root.id}/p{n}/{group}/d{n}").set({"n": n})
    seen = Watch(client.collection_group(group).order_by("n").limit(2))
    equal(ids(seen.next()[0]), ["d1", "d2"])
    client.document(f"{root.id}/p1/{group}/d1").delete()
    equal(ids(seen.next()[0]), ["d2", "d3"])
    client.document(f"{root.id}/p0/{group}/d0").set({"n": 0})
    equal(ids(seen.next()[0]), ["d0", "d2"])
    seen.stop()


@item("on_snapshot: a batch is seen whole")
def _():
    c = fresh()
    seen = Watch(c)
    equal(seen.next()[0], [])
    for n in range(1, 21):
        batch = client.batch()
        for name in "abc":
            batch.set(c.document(name), {"n": n})
        batch.commit()
    last = 0
    while last < 20:
        docs = seen.next()[0]
        numbers = {d.get("n") for d in docs}
        equal((len(docs), len(numbers)), (3, 1), numbers)
        last = numbers.pop()
    seen.stop()
