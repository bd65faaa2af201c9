"""Transactions: isolation, contention, retries, read-only ones."""

import threading
import time

from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from harness import client, equal, fails, fresh, ids, item


@item("transactions: read, then write all or nothing; an error rolls back")
def _():
    c = fresh()
    c.document("a").set({"n": 1})

    @firestore.transactional
    def work(transaction, broken):
        n = c.document("a").get(transaction=transaction).get("n")
        transaction.update(c.document("a"), {"n": n + 1})
        transaction.create(c.document("b"), {"n": n})
        if broken:
            raise KeyError("mine")
        return n

    fails(KeyError, work, client.transaction(), True)
    equal(ids(c.stream()), ["a"])
    equal(work(client.transaction(), False), 1)
    fails(exceptions.AlreadyExists, work, client.transaction(), False)
    equal([s.to_dict() for s in c.stream()], [{"n": 2}, {"n": 1}])


@item("transactions: threads that count end at the exact number", hidane="aborts most of them")
def _():
    doc = fresh().document("a")
    doc.set({"n": 0})
    errors = []

    def add():
        @firestore.transactional
        def work(transaction):
            transaction.update(doc, {"n": doc.get(transaction=transaction).get("n") + 1})

        try:
            for _ in range(20):
                work(client.transaction(max_attempts=20))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(errors, [])
    equal(doc.get().get("n"), 80)


@item("transactions: queries inside; what they did not find is protected")
def _():
    c = fresh()
    errors = []

    def claim(who):
        @firestore.transactional
        def work(transaction):
            taken = list(transaction.get(c.where(filter=FieldFilter("seat", "==", 1))))
            if not taken:
                transaction.create(c.document(who), {"seat": 1})

        try:
            work(client.transaction(max_attempts=20))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=claim, args=(f"w{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(errors, [])
    equal(len(list(c.stream())), 1)


@item("transactions: read-only ones see one time, or a past one, and write nothing")
def _():
    c = fresh()
    first = c.document("a").set({"n": 1}).update_time

    @firestore.transactional
    def look(transaction):
        before = c.document("a").get(transaction=transaction).get("n")
        batch = client.batch()
        batch.update(c.document("a"), {"n": firestore.Increment(1)})
        batch.set(c.document("b"), {"n": 9}, merge=True)
        batch.commit()
        after = c.document("a").get(transaction=transaction).get("n")
        return before, after, len(list(transaction.get(c.select(["n"]))))

    equal(look(client.transaction(read_only=True)), (1, 1, 1))
    time.sleep(0.01)

    # The client has no word for a transaction at a past time; the query has one.
    equal([s.to_dict() for s in c.stream(read_time=first)], [{"n": 1}])
    transaction = client.transaction(read_only=True)
    transaction._begin()
    fails((exceptions.InvalidArgument, ValueError), lambda: (transaction.set(c.document("x"), {}), transaction._commit()))
    equal(c.document("x").get().exists, False)


@item("transactions: a lock that is held makes writers wait, not lose")
def _():
    doc = fresh().document("a")
    doc.set({"n": 1})
    transaction = client.transaction()
    transaction._begin()
    equal(doc.get(transaction=transaction).get("n"), 1)
    done = []
    writer = threading.Thread(target=lambda: done.append(doc.set({"n": 100})))
    writer.start()
    time.sleep(0.2)
    transaction.update(doc, {"n": 2})
    try:
        transaction._commit()
    except exceptions.Aborted:
        pass
    writer.join()
    equal(doc.get().get("n"), 100)
