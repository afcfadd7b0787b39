import Testing
import WeirCore
import WeirJSON
import WeirValues

private let times =
    #""ts_ms":1795226584123,"ts_us":1795226584123456,"ts_ns":1795226584123456000"#
private func source(_ table: String = "orders", snapshot: String = "false") -> String {
    #""source":{"version":"weir","connector":"postgresql","name":"shop",\#(times),"#
        + #""snapshot":"\#(snapshot)","db":"shop","sequence":"[\"23803808\",\"23803720\"]","#
        + #""schema":"\#(table.isEmpty ? "" : "public")","table":"\#(table)","txId":745,"#
        + #""lsn":23803720,"xmin":null}"#
}
private func record(
    _ operation: String,
    before: String = "null",
    after: String = "null",
    snapshot: String = "false"
) -> String {
    #"{"before":\#(before),"after":\#(after),\#(source(snapshot: snapshot)),"op":"\#(operation)","#
        + #"\#(times),"transaction":null}"#
}
private let row: [Cell] = ["7", "a", "1.50", nil]
private let rowJSON = #"{"id":7,"note":"a","total":1.50,"at":null}"#

struct DebeziumLineTests {
    @Test func insertsAndReadsHaveAnAfter() throws {
        #expect(try lines(.debezium, .insert, after: row) == [record("c", after: rowJSON)])
        #expect(
            try lines(.debezium, .read, after: row)
                == [record("r", after: rowJSON, snapshot: "true")]
        )
    }

    @Test func anUpdateShowsTheRowBeforeIfThereIsOne() throws {
        #expect(try lines(.debezium, .update, after: row) == [record("u", after: rowJSON)])
        #expect(
            try lines(.debezium, .update, before: ["7", nil, "0", nil], after: row) == [
                record(
                    "u",
                    before: #"{"id":7,"note":null,"total":0,"at":null}"#,
                    after: rowJSON
                )
            ]
        )
    }

    @Test func anUnchangedColumnIsDebeziumsPlaceholder() throws {
        #expect(
            try lines(.debezium, .update, after: ["7", .unchanged, "1.50", nil]) == [
                record(
                    "u",
                    after:
                        #"{"id":7,"note":"__debezium_unavailable_value","total":1.50,"at":null}"#
                )
            ]
        )
    }

    @Test func aDeleteIsFollowedByATombstone() throws {
        #expect(
            try lines(
                .debezium,
                .delete,
                flags: Event.beforeIsKey,
                before: ["7", .unchanged, .unchanged, .unchanged]
            )
                == [record("d", before: #"{"id":7}"#), "null"]
        )
        #expect(
            try lines(.debezium, .delete, before: row) == [record("d", before: rowJSON), "null"]
        )
    }

    @Test func withoutTombstonesADeleteIsOneLine() throws {
        var batch = TestBatch()
        batch.add(.delete, .orders, before: row)
        batch.add(
            .update, .orders, flags: Event.keyChanged | Event.beforeIsKey,
            before: ["6", .unchanged, .unchanged, .unchanged], after: row)
        #expect(
            try lines(.debezium, batch.seal(), tombstones: false) == [
                record("d", before: rowJSON), record("d", before: #"{"id":6}"#),
                record("c", after: rowJSON),
            ])
    }

    @Test func aKeyChangeIsADeleteATombstoneAndACreate() throws {
        #expect(
            try lines(
                .debezium,
                .update,
                flags: Event.keyChanged | Event.beforeIsKey,
                before: ["6", .unchanged, .unchanged, .unchanged],
                after: row
            )
                == [record("d", before: #"{"id":6}"#), "null", record("c", after: rowJSON)]
        )
    }

    @Test func aTruncateHasNoRows() throws {
        #expect(try lines(.debezium, .truncate) == [record("t")])
    }

    @Test(
        arguments: [
            ([], ""), ([0x66], "Zg=="), ([0x66, 0x6F], "Zm8="), ([0x66, 0x6F, 0x6F], "Zm9v"),
            ([0xFF, 0xFB, 0xF0, 0x00], "//vwAA=="),
        ] as [([UInt8], String)]
    )
    func aMessageIsInBase64(content: [UInt8], base64: String) throws {
        #expect(
            try lines(
                .debezium,
                .message,
                .messages(version: 5, database: "shop"),
                after: ["p\"", .binary(content)]
            ) == [
                #"{\#(source("")),"op":"m",\#(times),"#
                    + #""message":{"prefix":"p\"","content":"\#(base64)"}}"#
            ]
        )
    }

    @Test func theEpochAndTimesBeforeItAreNumbers() throws {
        var batch = TestBatch()
        batch.commitMicros = 0
        batch.transaction = 0
        batch.add(.truncate)
        batch.commitMicros = -1
        batch.add(.truncate)
        let both = try lines(.debezium, batch.seal())
        #expect(both[0].contains(#""ts_ms":0,"ts_us":0,"ts_ns":0,"#))
        #expect(both[0].contains(#""txId":null,"#))
        #expect(both[1].contains(#""ts_ms":-1,"ts_us":-1,"ts_ns":-1000,"#))
    }
}
