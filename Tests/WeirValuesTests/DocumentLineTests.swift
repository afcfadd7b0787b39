import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

private let key: [UInt8] = bson([("_id", 7)])
private let article: [UInt8] = bson([("_id", 7), ("title", "a")])
private let articleJSON = #"{"_id":7,"title":"a"}"#

/// One line of the format `weir`, from the operation on.
private func line(_ operation: String, _ middle: String, transaction: String = "") -> String {
    #"{"id":"mg:shop:826B00FBD8000000032B04","op":"\#(operation)","ts":"2026-11-21T02:03:04.123000Z","#
        + #""source":{"kind":"mongodb","name":"shop","db":"cms","collection":"articles"}"#
        + middle
        + #","pos":{"cluster_time":{"t":1795226584,"i":3},"token":"826B00FBD8000000032B04"\#(transaction)}}"#
}

/// Documents in the format `weir`.
struct DocumentLineTests {
    @Test func insertsAndReadsShowTheDocument() throws {
        for (operation, name) in [(WeirCore.Operation.insert, "insert"), (.read, "read")] {
            #expect(
                try documentLines(.weir, operation, key: key, after: .document(article))
                    == [line(name, #","key":{"_id":7},"after":\#(articleJSON)"#)])
        }
    }

    @Test func anUpdateNamesWhatItChanged() throws {
        let changes: [(String, DocumentValue)] = [
            ("updatedFields", .document([("a.b", 1), ("c\"", .null)])),
            ("removedFields", .array(["d", "e.0"])),
            (
                "truncatedArrays",
                .array([.document([("field", "tags"), ("newSize", 2)]), .document([])])
            ),
            ("disambiguatedPaths", .document([("x", .null)])),
        ]
        #expect(
            try documentLines(
                .weir, .update, flags: Event.late, key: key, after: .document(article),
                changes: changes)
                == [
                    line(
                        "update",
                        #","key":{"_id":7},"after":\#(articleJSON),"#
                            + #""changed":["a.b","c\"","d","e.0","tags"],"late":true"#)
                ])
        // A server may leave lists out.
        for empty: [(String, DocumentValue)] in [[], [("updatedFields", .document([]))]] {
            #expect(
                try documentLines(
                    .weir, .update, key: key, after: .document(article), changes: empty)
                    == [
                        line(
                            "update", #","key":{"_id":7},"after":\#(articleJSON),"changed":[]"#)
                    ])
        }
    }

    @Test func aReplacedDocumentHasNoList() throws {
        #expect(
            try documentLines(
                .weir, .update, key: key, before: .document(bson([("_id", 7)])),
                after: .document(article))
                == [
                    line(
                        "update",
                        #","key":{"_id":7},"after":\#(articleJSON),"before":{"_id":7}"#)
                ])
    }

    @Test func aDocumentThatWasGoneHasNoAfter() throws {
        #expect(
            try documentLines(
                .weir, .update, flags: Event.late | Event.rowGone, key: key,
                changes: [("updatedFields", .document([("a", 1)]))])
                == [
                    line(
                        "update",
                        #","key":{"_id":7},"changed":["a"],"late":true,"gone":true"#)
                ])
        #expect(try documentLines(.row, .update, flags: Event.rowGone, key: key).isEmpty)
    }

    @Test func aDeleteShowsTheImageBeforeIfThereIsOne() throws {
        #expect(
            try documentLines(.weir, .delete, key: key, before: .document(article))
                == [line("delete", #","key":{"_id":7},"before":\#(articleJSON)"#)])
        #expect(
            try documentLines(
                .weir, .delete, flags: Event.beforeIsKey, key: key, before: .documentKey(key))
                == [line("delete", #","key":{"_id":7}"#)])
        #expect(
            try documentLines(
                .row, .delete, flags: Event.beforeIsKey, key: key, before: .documentKey(key)
            ).isEmpty)
    }

    @Test func aDroppedCollectionIsEmptied() throws {
        #expect(
            try documentLines(.weir, .truncate, flags: Event.dropped)
                == [line("truncate", #","dropped":true"#)])
    }

    @Test func aTransactionIsNamed() throws {
        #expect(
            try documentLines(
                .weir, .insert, key: key, after: .document(article), transaction: "0a1b:12")
                == [
                    line(
                        "insert", #","key":{"_id":7},"after":\#(articleJSON)"#,
                        transaction: #","txn":"0a1b:12""#)
                ])
    }

    @Test func keysAreShownWholeWhateverIsChosen() throws {
        let sharded = bson([("region", "eu"), ("_id", .document([("b", 1), ("a", 2)]))])
        let found = try documentLines(
            .weir, .update, key: sharded, before: .document(bson([])), after: .document(article),
            columns: [ColumnChoice(output: "t", source: "title")])
        #expect(
            found == [
                line(
                    "update",
                    #","key":{"region":"eu","_id":{"b":1,"a":2}},"after":{"t":"a"}"#)
            ])
    }

    @Test func theModeIsThatOfTheSink() throws {
        #expect(
            try documentLines(
                .weir, .insert, key: key, after: .document(article), mode: .canonical)
                == [
                    line(
                        "insert",
                        #","key":{"_id":{"$numberInt":"7"}},"#
                            + #""after":{"_id":{"$numberInt":"7"},"title":"a"}"#)
                ])
    }

    // MARK: Bytes that break rules

    @Test func textThatIsNoUTF8IsReplacedAndNamed() throws {
        let bad = bson([("_id", 7), ("t", .text([0x61, 0xFF]))])
        #expect(
            try documentLines(.weir, .insert, key: key, after: .document(bad))
                == [
                    line(
                        "insert",
                        #","key":{"_id":7},"after":{"_id":7,"t":"a\#u{FFFD}"},"replaced":["$"]"#)
                ])
        let columns = [
            ColumnChoice(output: "id", source: "_id"), ColumnChoice(output: "x", source: "t"),
        ]
        #expect(
            try documentLines(
                .weir, .insert, key: key, after: .document(bad), columns: columns)
                == [
                    line(
                        "insert",
                        #","key":{"_id":7},"after":{"id":7,"x":"a\#u{FFFD}"},"replaced":["x"]"#)
                ])
    }

    @Test func bytesThatAreNoDocumentAreShownWholeAndNamed() throws {
        #expect(
            try documentLines(.weir, .insert, key: key, after: .document([5, 0, 0, 0, 1]))
                == [
                    line(
                        "insert",
                        #","key":{"_id":7},"after":"\\x0500000001","types":{"$":"document"}"#)
                ])
        #expect(
            try documentLines(.weir, .insert, key: key, after: .binary([0xFF]))
                == [line("insert", #","key":{"_id":7},"after":"\\xff","binary":["$"]"#)])
    }

    @Test func aDocumentThatWasNotSentIsNeverNull() throws {
        #expect(
            try documentLines(.weir, .update, key: key, after: .unchanged)
                == [line("update", #","key":{"_id":7},"after":{},"unchanged":["$"]"#)])
    }

    // MARK: Identity

    @Test func theIdIsThePosition() throws {
        for token in [TestBatch.token, nil] {
            var batch = TestBatch()
            batch.addDocument(.insert, key: key, after: .document(article), token: token)
            let sealed = batch.seal()
            let place = sealed.position(of: sealed.events[0]).token
            #expect(place == token ?? "826B00FBD800000003")
            let line = try lines(.weir, sealed, kind: "mongodb")[0]
            #expect(line.hasPrefix(#"{"id":"mg:shop:\#(place)","op":"insert""#))
            #expect(line.contains(#""token":"\#(place)""#))
        }
    }

    @Test func aLineDependsOnItsEventAlone() throws {
        var alone: [String] = []
        var together = TestBatch()
        for (index, micros) in [1_795_226_584_123_000, 1_795_226_584_123_000, 0].enumerated() {
            var batch = TestBatch()
            batch.commitMicros = Int64(micros)
            together.commitMicros = Int64(micros)
            let document = Cell.document(bson([("_id", .int32(Int32(index)))]))
            batch.addDocument(.insert, key: key, after: document, token: "82\(index)")
            together.addDocument(.insert, key: key, after: document, token: "82\(index)")
            for format in [LineFormat.weir, .debezium] {
                alone += try lines(format, batch.seal(), kind: "mongodb")
                batch = TestBatch()
                batch.commitMicros = Int64(micros)
                batch.addDocument(.insert, key: key, after: document, token: "82\(index)")
            }
        }
        let sealed = together.seal()
        let found = try lines(.weir, sealed, kind: "mongodb")
        let debezium = try lines(.debezium, sealed, kind: "mongodb")
        #expect(alone == (0..<3).flatMap { [found[$0], debezium[$0]] })
        #expect(found[2].contains(#""ts":"1970-01-01T00:00:00.000000Z""#))
    }

    @Test func anEventThatDoesNotFitACollectionIsABug() throws {
        let events: [(WeirCore.Operation, Cell?)] = [
            (.insert, nil), (.delete, .document(article)), (.message, nil),
        ]
        for (operation, after) in events {
            #expect(throws: WeirError.self) {
                try documentLines(.weir, operation, key: key, after: after)
            }
        }
    }
}
