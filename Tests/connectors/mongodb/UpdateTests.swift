import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

struct LookUpPaceTests {
    @Test func fewAtFirstThenManyAndFewWhereTheyAreLarge() {
        var pace = LookUpPace()
        #expect(pace.count(within: 512 << 10) == 4)
        for _ in 0..<5 { pace.took(pace.count(within: 512 << 10), largest: 700) }
        #expect(pace.count(within: 512 << 10) == 100)
        pace.took(100, largest: 5_000_000)
        #expect(pace.count(within: 512 << 10) == 1)
        for _ in 0..<40 { pace.took(1, largest: 700) }
        #expect(1...2 ~= pace.count(within: 512 << 10))
        for _ in 0..<200 { pace.took(1, largest: 0) }
        #expect(pace.count(within: 512 << 10) == 100)
    }
}

extension MongoSourceTests {
    /// What an update, a replacement and a delete say, and where their documents come from.
    @Suite struct Updates {
        @Test("CORRECTNESS 57: the server says whether a document was updated or replaced")
        func updateOrReplace() async throws {
            let database = try await TestDatabase()
            try await database.createWithImages()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1, "a": 1}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"b": 2}}"#)
            try await database.update(#"{"_id": 1}"#, #"{"c": 3}"#, .replacement)
            try await database.shell.update(
                #"{"_id": 2}"#, #"{"$set": {"d": 4}}"#, in: database.path("t"), upsert: true)
            try await database.update("{}", #"{"$set": {"e": 5}}"#, .many)
            let changes = try await source.drain()
            #expect(
                changes.texts == [
                    #"insert t {"_id":1} + {"_id":1,"a":1}"#,
                    #"update t {"_id":1} - {"_id":1,"a":1} + {"_id":1,"a":1,"b":2}"#,
                    #"update t {"_id":1} - {"_id":1,"a":1,"b":2} + {"_id":1,"c":3}"#,
                    #"insert t {"_id":2} + {"_id":2,"d":4}"#,
                    #"update t {"_id":1} - {"_id":1,"c":3} + {"_id":1,"c":3,"e":5}"#,
                    #"update t {"_id":2} - {"_id":2,"d":4} + {"_id":2,"d":4,"e":5}"#,
                ])
            #expect(changes.map { $0.changes != nil } == [false, true, false, false, true, true])
        }

        @Test("CORRECTNESS 57: what the server says of an update is handed on, whatever the names")
        func updateDescription() async throws {
            let database = try await TestDatabase()
            try await database.insert(
                #"{"_id": 1, "a": {"b": [{"c": 1}, 2, 3, 4]}, "0": "x", "gone": 1, "$y": 1}"#)
            let source = try await SourceHarness.open(database)
            func change(_ update: String) async throws -> String? {
                try await database.update(#"{"_id": 1}"#, update)
                return try await source.read(1).first?.changes
            }
            func said(_ updated: String, removed: String = "", cut: String = "") -> String {
                #"{"updatedFields":{\#(updated)},"removedFields":[\#(removed)],"#
                    + #""truncatedArrays":[\#(cut)]}"#
            }
            // A path, and a number in it.
            #expect(
                try await change(#"{"$set": {"a.b.0.c": 5, "0": "y"}}"#)
                    == said(#""0":"y","a.b.0.c":5"#))
            #expect(
                try await change(#"{"$unset": {"gone": 1}, "$set": {"n": null}}"#)
                    == said(#""n":null"#, removed: #""gone""#))
            #expect(
                try await change(#"[{"$set": {"a.b": {"$slice": ["$a.b", 2]}}}]"#)
                    == said("", cut: #"{"field":"a.b","newSize":2}"#))
            // Names that have a dot, begin with a dollar, are empty.
            for (name, shown) in [("a.b", "a.b"), ("$x", "$x"), ("", ""), ("ö\u{1F600}", "ö😀")] {
                let update = """
                    [{"$replaceWith": {"$setField": {"field": {"$literal": "\(name)"},
                    "input": "$$ROOT", "value": 7}}}]
                    """
                #expect(try await change(update) == said(#""\#(shown)":7"#))
            }
            let unset =
                #"[{"$replaceWith": {"$unsetField": {"field": {"$literal": "$y"}, "input": "$$ROOT"}}}]"#
            #expect(try await change(unset) == said("", removed: #""$y""#))
            let document = try await database.shell.findBSON(in: database.path("t"))
            #expect(
                json(document[0])
                    == #"{"_id":1,"a":{"b":[{"c":5},2]},"0":"y","n":null,"a.b":7,"$x":7,"":7,"ö😀":7}"#
            )
        }

        @Test("CORRECTNESS 58: with images each change has the document as that change left it")
        func images() async throws {
            let database = try await TestDatabase()
            try await database.createWithImages()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1, "a": 0}"#)
            for a in 1...3 { try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": \#(a)}}"#) }
            try await database.delete(#"{"_id": 1}"#)
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1,"a":0}"#,
                    #"update t {"_id":1} - {"_id":1,"a":0} + {"_id":1,"a":1}"#,
                    #"update t {"_id":1} - {"_id":1,"a":1} + {"_id":1,"a":2}"#,
                    #"update t {"_id":1} - {"_id":1,"a":2} + {"_id":1,"a":3}"#,
                    #"delete t {"_id":1} - {"_id":1,"a":3}"#,
                ])
        }

        @Test("CORRECTNESS 58: without images the document is looked up, and the event marked late")
        func lookUps() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1, "a": 0}"#, #"{"_id": 2, "a": 0}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            try await database.update(#"{"_id": 2}"#, #"{"$set": {"a": 1}}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 2}}"#)
            let finds = try await database.count(of: "find")
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1,"a":0}"#,
                    #"insert t {"_id":2} + {"_id":2,"a":0}"#,
                    // Two changes before: a later document, and said to be.
                    #"update t {"_id":1} + {"_id":1,"a":2}, late"#,
                    #"update t {"_id":2} + {"_id":2,"a":1}, late"#,
                    #"update t {"_id":1} + {"_id":1,"a":2}, late"#,
                ])
            // All of a batch at once.
            #expect(try await database.count(of: "find") - finds == 1)
        }

        @Test("CORRECTNESS 58: one look-up per collection, whatever the order of changes")
        func lookUpsOfSeveral() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database, nil)
            for collection in ["t", "u"] {
                try await database.insert(#"{"_id": 1, "a": 0}"#, into: collection)
            }
            _ = try await source.drain()
            for a in 1...4 {
                for collection in ["t", "u"] {
                    try await database.update(
                        #"{"_id": 1}"#, #"{"$set": {"a": \#(a)}}"#, in: collection)
                }
            }
            let finds = try await database.count(of: "find")
            #expect(
                try await source.drain().texts
                    == (1...4).flatMap { _ in
                        ["t", "u"].map { #"update \#($0) {"_id":1} + {"_id":1,"a":4}, late"# }
                    })
            // The eight changes may come in two batches.
            #expect(try await database.count(of: "find") - finds <= 6)
        }

        @Test(
            "CORRECTNESS 58: a look-up shows nothing older than the event, whichever server answers"
        )
        func neverOlder() async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#)
            let source = try await SourceHarness.open(database)
            try await database.run(#"{"profile": 2}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            let change = try #require(try await source.drain().first)
            try await database.run(#"{"profile": 0}"#)
            // A new primary may know of a change before it knows that a majority has it.
            let time =
                #"{"$timestamp": {"t": \#(change.clusterTime >> 32), "#
                + #""i": \#(change.clusterTime & 0xFFFF_FFFF)}}"#
            let waits = try await database.shell.count(
                """
                {"command.find": "t", "command.readConcern.level": "majority",
                "command.readConcern.afterClusterTime": \(time)}
                """, in: database.path("system.profile"))
            #expect(waits == 1)
        }

        @Test("CORRECTNESS 58: collections with images and without, in one stream")
        func mixed() async throws {
            let database = try await TestDatabase()
            try await database.createWithImages("t")
            try await database.run(#"{"create": "v"}"#)
            let source = try await SourceHarness.open(database, nil)
            for collection in ["t", "u", "v"] {
                try await database.insert(#"{"_id": 1, "a": 0}"#, into: collection)
            }
            for a in 1...2 {
                for collection in ["t", "u", "v"] {
                    try await database.update(
                        #"{"_id": 1}"#, #"{"$set": {"a": \#(a)}}"#, in: collection)
                }
            }
            let changes = try await source.drain()
            #expect(
                changes.map(\.isLate) == [false, false, false] + [
                    false, true, true, false, true, true,
                ])
            #expect(
                changes.suffix(6).map(\.after) == [
                    #"{"_id":1,"a":1}"#, #"{"_id":1,"a":2}"#, #"{"_id":1,"a":2}"#,
                    #"{"_id":1,"a":2}"#, #"{"_id":1,"a":2}"#, #"{"_id":1,"a":2}"#,
                ])
            #expect(
                changes.map(\.before) == [nil, nil, nil] + [
                    #"{"_id":1,"a":0}"#, nil, nil, #"{"_id":1,"a":1}"#, nil, nil,
                ])
        }

        @Test("CORRECTNESS 58: images are asked for only where they are wanted")
        func neverBefore() async throws {
            let database = try await TestDatabase()
            try await database.createWithImages()
            let source = try await SourceHarness.open(
                database, config: ["before": .string("never")])
            try await database.insert(#"{"_id": 1, "a": 0}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 2}}"#)
            try await database.delete(#"{"_id": 1}"#)
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1,"a":0}"#,
                    #"update t {"_id":1} + {"_id":1,"a":1}"#,
                    #"update t {"_id":1} + {"_id":1,"a":2}"#, #"delete t {"_id":1}"#,
                ])
        }

        @Test(
            "CORRECTNESS 58: an image that is gone is no failure: the document is looked up",
            arguments: ["switched off", "expired"])
        func lostImages(how: String) async throws {
            let database = try await TestDatabase()
            try await database.createWithImages()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1, "a": 0}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            if how == "expired" {
                // What the server's own remover does, when it is time.
                try await database.shell.run(
                    #"{"delete": "system.preimages", "deletes": [{"q": {}, "limit": 0}]}"#,
                    database: "config")
            } else {
                try await database.run(
                    #"{"collMod": "t", "changeStreamPreAndPostImages": {"enabled": false}}"#)
            }
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 2}}"#)
            let changes = try await source.drain()
            let last =
                how == "expired"
                ? #"update t {"_id":1} - {"_id":1,"a":1} + {"_id":1,"a":2}"#
                : #"update t {"_id":1} + {"_id":1,"a":2}, late"#
            let first =
                how == "expired"
                ? #"update t {"_id":1} + {"_id":1,"a":2}, late"#
                // What was kept is still there.
                : #"update t {"_id":1} - {"_id":1,"a":0} + {"_id":1,"a":1}"#
            #expect(
                changes.texts == [#"insert t {"_id":1} + {"_id":1,"a":0}"#, first, last])
        }

        @Test("CORRECTNESS 69: a document that is gone when it is looked up is said to be gone")
        func gone() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#, #"{"_id": 2}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            try await database.update(#"{"_id": 2}"#, #"{"$set": {"a": 1}}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 2}}"#)
            try await database.delete(#"{"_id": 1}"#)
            let changes = try await source.drain()
            #expect(
                changes.texts == [
                    #"insert t {"_id":1} + {"_id":1}"#, #"insert t {"_id":2} + {"_id":2}"#,
                    #"update t {"_id":1}, gone"#, #"update t {"_id":2} + {"_id":2,"a":1}, late"#,
                    #"update t {"_id":1}, gone"#, #"delete t {"_id":1}"#,
                ])
            // What changed is known all the same.
            #expect(changes[2].changes?.contains(#""updatedFields":{"a":1}"#) == true)
            // Of a collection that is gone, and of one that has another document of the key.
            try await database.update(#"{"_id": 2}"#, #"{"$set": {"a": 2}}"#)
            try await database.run(#"{"drop": "t"}"#)
            #expect(
                try await source.drain().texts == [
                    #"update t {"_id":2}, gone"#, "truncate t, dropped",
                ])
        }

        /// A batch has 512 KiB, and what was not known beforehand.
        @Test(
            "CORRECTNESS 58: more documents than a batch may hold are looked up in parts",
            arguments: [(300, 20_000, 3 << 20), (60, 1_000_000, 6 << 20)])
        func manyLookUps(count: Int, size: Int, most: Int) async throws {
            let database = try await TestDatabase()
            let text = String(repeating: "x", count: size)
            for start in stride(from: 0, to: count, by: 30) {
                try await database.shell.insert(count: 30, into: database.path("t")) {
                    #"{"_id": \#(start + $0), "v": "\#(text)"}"#
                }
            }
            let source = try await SourceHarness.open(database)
            try await database.update("{}", #"{"$set": {"a": 1}}"#, .many)
            var largest = 0
            let changes = try await source.read(until: "all") { source, changes in
                largest = max(largest, source.batch.byteCount)
                return changes.count == count
            }
            #expect(changes.ids == (0..<count).map { "\($0)" })
            #expect(changes.allSatisfy { $0.isLate && $0.after?.hasSuffix(#","a":1}"#) == true })
            #expect(largest < most)
        }
    }
}
