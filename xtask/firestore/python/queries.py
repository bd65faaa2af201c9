"""Queries, groups, aggregations, partitions, vectors, explain."""

from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import And, FieldFilter, Or
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.query_profile import ExplainOptions
from google.cloud.firestore_v1.vector import Vector

from harness import client, equal, fails, fresh, fresh_id, ids, item


def where(path, op, value):
    return FieldFilter(path, op, value)


def grid():
    c = fresh()
    batch = client.batch()
    for a in range(4):
        for b in range(4):
            batch.set(c.document(f"d{a}{b}"), {"a": a, "b": b, "sum": a + b, "t": "odd" if a % 2 else "even", "l": [a, b]})
    batch.set(c.document("none"), {"other": 1})
    batch.commit()
    return c


@item("queries: each operator")
def _():
    c = grid()
    for path, op, value, expected in [
        ("sum", "==", 6, ["d33"]), ("sum", ">", 4, ["d23", "d32", "d33"]), ("sum", ">=", 6, ["d33"]), ("sum", "<", 1, ["d00"]),
        ("sum", "<=", 1, ["d00", "d01", "d10"]), ("sum", "in", [0, 6, 99], ["d00", "d33"]), ("l", "array_contains", 3, ["d03", "d13", "d23", "d30", "d31", "d32", "d33"]),
        ("l", "array_contains_any", [7, 0], ["d00", "d01", "d02", "d03", "d10", "d20", "d30"]), ("other", "!=", 2, ["none"]), ("other", "not-in", [1], []),
        ("other", "not-in", [2, 3], ["none"]), ("l", "==", [2, 1], ["d21"]),
    ]:
        equal(ids(c.where(filter=where(path, op, value)).stream()), expected, f"{path} {op} {value}")
    c.document("null").set({"v": None})
    c.document("nan").set({"v": float("nan")})
    c.document("one").set({"v": 1})
    equal(ids(c.where(filter=where("v", "==", None)).stream()), ["null"])
    equal(ids(c.where(filter=where("v", "==", float("nan"))).stream()), ["nan"])
    equal(ids(c.where(filter=where("v", "!=", None)).stream()), ["nan", "one"])
    equal(ids(c.where(filter=where("v", "!=", float("nan"))).stream()), ["one"])


@item("queries: AND, OR, nested; several inequalities")
def _():
    c = grid()
    a, b = (lambda *f: And(filters=list(f))), (lambda *f: Or(filters=list(f)))
    nested = a(where("t", "==", "odd"), b(a(where("a", "==", 1), where("b", "==", 0)), where("b", "==", 3)))
    equal(ids(c.where(filter=nested).stream()), ["d10", "d13", "d33"])
    equal(ids(c.where(filter=b(where("a", ">", 2), where("sum", "==", 0))).stream()), ["d00", "d30", "d31", "d32", "d33"])
    equal(ids(c.where(filter=where("a", ">", 1)).where(filter=where("b", "<", 1)).stream()), ["d20", "d30"])
    equal(ids(c.where(filter=where("a", "!=", 1)).where(filter=where("b", "==", 0)).stream()), ["d00", "d20", "d30"])


@item("queries: order, cursors, limit, offset, limit to last, select")
def _():
    c = grid()
    down = firestore.Query.DESCENDING
    q = c.order_by("a").order_by("b", direction=down)
    equal(ids(q.start_at({"a": 2, "b": 1}).limit(3).stream()), ["d21", "d20", "d33"])
    equal(ids(q.start_after({"a": 2}).limit(1).stream()), ["d33"])
    equal(ids(q.end_before({"a": 0, "b": 2}).stream()), ["d03"])
    equal(ids(q.start_after(c.document("d12").get()).limit(2).stream()), ["d11", "d10"])
    equal(ids(q.offset(14).stream()), ["d31", "d30"])
    equal(ids(q.limit_to_last(2).get()), ["d31", "d30"])
    equal(ids(c.order_by("sum", direction=down).order_by("a").limit(4).stream()), ["d33", "d23", "d32", "d13"])
    equal([s.to_dict() for s in c.where(filter=where("sum", "==", 6)).select(["a", "none"]).stream()], [{"a": 3}])
    equal([s.to_dict() for s in c.select([]).limit(1).stream()], [{}])
    equal(ids(c.where(filter=where("__name__", ">=", c.document("d32"))).stream()), ["d32", "d33", "none"])
    equal(ids(c.order_by("__name__").start_after({"__name__": c.document("d31")}).limit(1).stream()), ["d32"])


@item("queries: the order of types, as the client itself orders them")
def _():
    c = fresh()
    values = [None, False, True, float("nan"), float("-inf"), -1.5, 0, 1, 2**53, float("inf"), "", "a", "é", "\ufffd", "😀", b"", b"\x00", b"\xff",
              client.document("a/__id2__"), client.document("a/__id10__"), client.document("a/b"), firestore.GeoPoint(0, -1), firestore.GeoPoint(0, 1), [], [None], [1], ["a"],
              Vector([2.0]), Vector([1.0, 2.0]), {}, {"a": 1}, {"a": 1, "b": None}, {"b": 0}]
    batch = client.batch()
    for n in reversed(range(len(values))):
        batch.set(c.document(), {"v": values[n], "n": n})
    batch.commit()
    equal([s.get("n") for s in c.order_by("v").stream()], list(range(len(values))))
    equal([s.get("n") for s in c.order_by("v", direction=firestore.Query.DESCENDING).limit(3).stream()], [len(values) - 1 - i for i in range(3)])


@item("queries: collection groups")
def _():
    group = fresh_id("group")
    root = fresh()
    for n, path in enumerate(["a", "b/x/1", "c/x/2/y/3"]):
        client.document(f"{root.id}/{path}/{group}/d").set({"n": n})
    client.document(f"{root.id}/a/{group}x/d").set({"n": 99})
    q = client.collection_group(group)
    equal([s.get("n") for s in q.order_by("n", direction=firestore.Query.DESCENDING).stream()], [2, 1, 0])
    equal([s.reference.path for s in q.where(filter=where("n", ">", 1)).stream()], [f"{root.id}/c/x/2/y/3/{group}/d"])
    equal(sorted(s.get("n") for s in q.stream()), [0, 1, 2])


@item("aggregations: count, sum, average; in one; of nothing; with limits")
def _():
    c = grid()
    equal(c.count(alias="all").get()[0][0].value, 17)
    q = c.where(filter=where("a", ">=", 2)).sum("b", alias="s").avg("b", alias="m").count(alias="n")
    equal({r.alias: r.value for r in q.get()[0]}, {"s": 12, "m": 1.5, "n": 8})
    equal(type({r.alias: r.value for r in q.get()[0]}["s"]), int)
    nothing = c.where(filter=where("a", ">", 99)).sum("b", alias="s").avg("b", alias="m").count(alias="n")
    # The client shows the null average as 0.
    equal({r.alias: r.value for r in nothing.get()[0]}, {"s": 0, "m": 0, "n": 0})
    equal(c.limit(3).count().get()[0][0].value, 3)
    equal(c.order_by("sum", direction=firestore.Query.DESCENDING).limit(2).sum("sum").get()[0][0].value, 11)


@item("partitions: together they are the group", hidane="has no PartitionQuery")
def _():
    group = fresh_id("parts")
    writer = client.bulk_writer()
    for n in range(300):
        writer.set(client.document(f"{group}-root/p{n % 5}/{group}/d{n}"), {"n": n})
    writer.close()
    seen = []
    partitions = list(client.collection_group(group).get_partitions(4))
    assert 1 <= len(partitions) <= 4
    for partition in partitions:
        seen += [s.get("n") for s in partition.query().stream()]
    equal(sorted(seen), list(range(300)))


@item("vectors: find_nearest by each measure, with distance and threshold")
def _():
    c = fresh()
    for name, vector in {"a": [1, 0], "b": [0, 2], "c": [3, 4], "g": [-1, 0]}.items():
        c.document(name).set({"v": Vector([float(x) for x in vector]), "k": 1 if name != "c" else 2})
    c.document("other").set({"v": Vector([1.0])})
    for measure, expected in [(DistanceMeasure.EUCLIDEAN, ["a", "g", "b", "c"]), (DistanceMeasure.COSINE, ["a", "c", "b", "g"]), (DistanceMeasure.DOT_PRODUCT, ["c", "a", "b", "g"])]:
        equal(ids(c.find_nearest("v", Vector([1.0, 0.0]), limit=9, distance_measure=measure).get()), expected, measure)
    told = c.where(filter=where("k", "==", 1)).find_nearest("v", Vector([1.0, 0.0]), limit=9, distance_measure=DistanceMeasure.EUCLIDEAN, distance_result_field="far", distance_threshold=2.1).get()
    equal([(s.id, s.get("far")) for s in told], [("a", 0.0), ("g", 2.0)])


@item("explain: the plan, and the run", hidane="has no explain")
def _():
    c = grid()
    q = c.where(filter=where("a", ">", 1)).order_by("a").limit(3)
    plan = q.get(explain_options=ExplainOptions(analyze=False)).get_explain_metrics()
    assert len(plan.plan_summary.indexes_used) > 0
    run = q.get(explain_options=ExplainOptions(analyze=True))
    equal(len(list(run)), 3)
    stats = run.get_explain_metrics().execution_stats
    equal(stats.results_returned, 3)
    assert stats.read_operations >= 3 and stats.debug_stats


@item("queries: what is no query is refused")
def _():
    c = fresh()
    fails(exceptions.InvalidArgument, lambda: list(c.where(filter=where("a", "in", list(range(31)))).stream()))
    both = c.where(filter=where("a", "not-in", [1])).where(filter=where("a", "!=", 2))
    fails(exceptions.InvalidArgument, lambda: list(both.stream()))
