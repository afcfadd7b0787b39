import Testing
import WeirCore
import WeirTesting

extension MongoSourceTests {
    /// Changes that do not fit into an answer.
    @Suite struct Sizes {
        private static let text = String(repeating: "x", count: 9_000_000)

        /// An update whose event has two documents of 9 MB.
        private func writeLargeUpdate(_ database: TestDatabase, id: Int, a: Int) async throws {
            try await database.update(#"{"_id": \#(id)}"#, #"{"$set": {"a": \#(a)}}"#)
        }

        @Test("CORRECTNESS 71: a change over 16 MB comes without images, and is looked up")
        func tooLarge() async throws {
            let database = try await TestDatabase()
            try await database.createWithImages()
            try await database.insert(#"{"_id": 1, "a": 0}"#, #"{"_id": 2, "v": "\#(Self.text)"}"#)
            let source = try await SourceHarness.open(database)
            let begin = try #require(source.start?.position)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            try await writeLargeUpdate(database, id: 2, a: 2)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 3}}"#)
            try await writeLargeUpdate(database, id: 2, a: 4)
            try await writeLargeUpdate(database, id: 2, a: 5)
            try await database.delete(#"{"_id": 2}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 6}}"#)
            let aggregates = try await database.count(of: "aggregate")
            let changes = try await source.read(7)
            // No loop: out of images and back, for each change that needs it.
            #expect(try await database.count(of: "aggregate") - aggregates == 9)
            try await eventually("one cursor is left") { try await database.cursors().count == 1 }
            check(changes)
            #expect(source.log.all.count(where: { $0.contains("too large") }) == 3)
            // The same where it is the first thing a stream meets.
            try await source.open(at: begin)
            check(try await source.read(7))
            try await source.open(at: Position(token: changes[0].position.token + "+"))
            #expect(try await source.read(6).ids == ["2", "1", "2", "2", "2", "1"])
        }

        private func check(_ changes: [Change]) {
            #expect(changes.ids == ["1", "2", "1", "2", "2", "2", "1"])
            #expect(
                changes.map { $0.isLate || $0.isGone } == [
                    false, true, false, true, true, false, false,
                ])
            let texts = changes.filter { $0.key == #"{"_id":1}"# }.texts
            #expect(
                texts == [
                    #"update t {"_id":1} - {"_id":1,"a":0} + {"_id":1,"a":1}"#,
                    #"update t {"_id":1} - {"_id":1,"a":1} + {"_id":1,"a":3}"#,
                    #"update t {"_id":1} - {"_id":1,"a":3} + {"_id":1,"a":6}"#,
                ])
            #expect(changes[5].operation == .delete)
            #expect(changes[5].before?.utf8.count ?? 0 > 9_000_000)
            // It was deleted by the time it was looked up.
            for change in changes where change.isGone { #expect(change.after == nil) }
        }

        @Test("CORRECTNESS 71: the largest document a server takes comes whole")
        func largest() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            // 16 MB are 16,777,216 bytes, of which these are not the text.
            let text = String(repeating: "x", count: 16_777_216 - 22)
            try await database.insert(#"{"_id": 1, "v": "\#(text)"}"#, #"{"_id": 2}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"v": "y"}}"#)
            let changes = try await source.read(3)
            #expect(changes.map { $0.document?.count } == [16_777_216, 14, 23])
        }
    }
}
