import Testing

@testable import WeirTesting

@Suite struct MongoShellTests {
    @Test func documentsComeBackAsTheyWentIn() async throws {
        let server = try await MongoServer.start()
        let shell = try server.shell()
        let documents = [
            #"{ "_id" : { "$numberInt" : "1" }, "a" : { "$numberDecimal" : "1.50" } }"#,
            #"{ "_id" : { "$numberInt" : "2" }, "a" : { "$date" : { "$numberLong" : "-1" } } }"#,
        ]
        try await shell.insert(documents, into: "shop.orders")
        #expect(try await shell.find(in: "shop.orders", sort: #"{"_id": 1}"#) == documents)
        #expect(
            try await shell.find(in: "shop.orders", sort: #"{"_id": -1}"#)
                == Array(documents.reversed()))
        #expect(try await shell.find(#"{"_id": 2}"#, in: "shop.orders") == [documents[1]])
        #expect(try await shell.find(in: "shop.nothing").isEmpty)
    }

    @Test func updatesAndDeletesSayHowManyTheyMatched() async throws {
        let server = try await MongoServer.start()
        let shell = try server.shell()
        let orders = "shop.orders"
        try await shell.insert(count: 2500, into: orders) { #"{"_id": \#($0), "n": 0}"# }
        #expect(try await shell.count(in: orders) == 2500)
        #expect(try await shell.update(#"{"_id": 7}"#, #"{"$set": {"n": 1}}"#, in: orders) == 1)
        #expect(try await shell.update("{}", #"{"$inc": {"n": 1}}"#, in: orders, .many) == 2500)
        #expect(try await shell.count(#"{"n": 2}"#, in: orders) == 1)
        let stages = #"[{"$set": {"n": {"$add": ["$n", 5]}}}, {"$unset": "m"}]"#
        #expect(try await shell.update(#"{"_id": 7}"#, stages, in: orders) == 1)
        let replaced = try await shell.update(#"{"n": 7}"#, #"{"m": 1}"#, in: orders, .replacement)
        #expect(replaced == 1)
        #expect(
            try await shell.find(#"{"_id": 7}"#, in: orders)
                == [#"{ "_id" : { "$numberInt" : "7" }, "m" : { "$numberInt" : "1" } }"#])
        let absent = #"{"_id": 9999}"#
        #expect(try await shell.update(absent, #"{"$set": {"n": 1}}"#, in: orders) == 0)
        #expect(
            try await shell.update(absent, #"{"$set": {"n": 1}}"#, in: orders, upsert: true) == 1)
        #expect(try await shell.delete(absent, from: orders) == 1)
        #expect(try await shell.delete(#"{"n": 1}"#, from: orders, many: true) == 2499)
        #expect(try await shell.count(in: orders) == 1)
    }

    @Test func bytesThatJSONCannotSayAreKept() async throws {
        let server = try await MongoServer.start()
        let shell = try server.shell()
        // _id 1; then "a" twice, as 1 and as 2.
        let twice = document(
            [0x10] + name("_id") + int32(1) + [0x10] + name("a") + int32(1) + [0x10] + name("a")
                + int32(2))
        // _id 2; then "s", a text of the one byte ff.
        let broken = document(
            [0x10] + name("_id") + int32(2) + [0x02] + name("s") + int32(2) + [0xff, 0])
        try await shell.insert(bson: [twice, broken], into: "shop.odd")
        #expect(try await shell.findBSON(in: "shop.odd", sort: #"{"_id": 1}"#) == [twice, broken])
        await #expect(throws: TestingError.self) { try await shell.find(in: "shop.odd") }
        await #expect(throws: TestingError.self) {
            try await shell.insert(bson: [[1, 2, 3]], into: "shop.odd")
        }
        try await shell.insert(count: 1500, into: "shop.many") {
            document([0x10] + name("_id") + int32(Int32($0)))
        }
        #expect(try await shell.count(in: "shop.many") == 1500)
    }

    @Test func failuresCarryCodeAndMessage() async throws {
        let server = try await MongoServer.start()
        let shell = try server.shell()
        try await shell.insert(#"{"_id": 1}"#, into: "shop.orders")
        let duplicate = await #expect(throws: MongoShell.Failure.self) {
            try await shell.insert(#"{"_id": 1}"#, into: "shop.orders")
        }
        #expect(duplicate?.code == 11000)
        #expect(duplicate?.isFromServer == true)
        let unknown = await #expect(throws: MongoShell.Failure.self) {
            try await shell.run(#"{"noSuchCommand": 1}"#)
        }
        #expect(unknown?.code == 59)
        #expect(unknown?.message.contains("noSuchCommand") == true)
        await #expect(throws: TestingError.self) { try await shell.run("{") }
        await #expect(throws: TestingError.self) { try await shell.count(in: "shop") }
        #expect(throws: MongoShell.Failure.self) { try MongoShell("http://127.0.0.1/") }
    }

    @Test func aTransactionIsSeenWholeOrNotAtAll() async throws {
        let set = try await MongoReplicaSet.start()
        let (shell, other) = (try set.shell(), try set.shell())
        try await shell.insert(#"{"_id": 1, "n": 0}"#, into: "shop.orders")
        let seen = try await shell.transaction {
            try await shell.insert(#"{"_id": 2}"#, #"{"_id": 3}"#, into: "shop.orders")
            try await shell.update(#"{"_id": 1}"#, #"{"$set": {"n": 1}}"#, in: "shop.orders")
            try await shell.delete(#"{"_id": 3}"#, from: "shop.orders")
            #expect(try await other.count(in: "shop.orders") == 1)
            return try await shell.find(in: "shop.orders").count
        }
        #expect(seen == 2)
        #expect(try await other.count(in: "shop.orders") == 2)
        #expect(try await other.count(#"{"n": 1}"#, in: "shop.orders") == 1)

        await #expect(throws: TestingError.self) {
            try await shell.transaction {
                try await shell.insert(#"{"_id": 4}"#, into: "shop.orders")
                throw TestingError("never mind")
            }
        }
        try await shell.begin()
        await #expect(throws: TestingError.self) { try await shell.begin() }
        try await shell.insert(#"{"_id": 5}"#, into: "shop.orders")
        try await shell.abort()
        #expect(try await other.count(in: "shop.orders") == 2)
        await #expect(throws: TestingError.self) { try await shell.commit() }
    }

    @Test func conflictingTransactionsFailWithTheServersLabel() async throws {
        let set = try await MongoReplicaSet.start()
        let (shell, other) = (try set.shell(), try set.shell())
        try await shell.insert(#"{"_id": 1, "n": 0}"#, into: "shop.orders")
        try await shell.begin()
        try await shell.update(#"{"_id": 1}"#, #"{"$inc": {"n": 1}}"#, in: "shop.orders")
        let failure = await #expect(throws: MongoShell.Failure.self) {
            try await other.transaction {
                try await other.update(#"{"_id": 1}"#, #"{"$inc": {"n": 1}}"#, in: "shop.orders")
            }
        }
        #expect(failure?.code == 112)
        #expect(failure?.labels == ["TransientTransactionError"])
        try await shell.commit()
    }

    @Test func commandsFailAsOftenAsAskedFor() async throws {
        let set = try await MongoReplicaSet.start()
        let (shell, other) = (try set.shell(), try set.shell())
        try await shell.failCommand(
            #"{"failCommands": ["ping"], "errorCode": 91, "errorLabels": ["Odd"]}"#, times: 2)
        for _ in 0..<2 {
            let failure = await #expect(throws: MongoShell.Failure.self) {
                try await other.run(#"{"ping": 1}"#)
            }
            #expect(failure?.code == 91)
            #expect(failure?.labels == ["Odd"])
        }
        try await other.run(#"{"ping": 1}"#)

        try await shell.failCommand(#"{"failCommands": ["ping"], "closeConnection": true}"#)
        let failure = await #expect(throws: MongoShell.Failure.self) {
            try await other.run(#"{"ping": 1}"#)
        }
        #expect(failure?.isFromServer == false)
        try await shell.stopFailing()
        try await other.run(#"{"ping": 1}"#)
    }
}

private func document(_ elements: [UInt8]) -> [UInt8] {
    int32(Int32(elements.count + 5)) + elements + [0]
}

private func name(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }

private func int32(_ number: Int32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: number >> Int32(8 * $0)) }
}
