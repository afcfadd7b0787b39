import Testing
import WeirCore
import WeirJSON
import WeirValues

private func head(_ operation: String, ordinal: String = "00000000") -> String {
    #"{"id":"pg:shop:00000000016B37A0:\#(ordinal)","op":"\#(operation)","#
        + #""ts":"2026-11-21T02:03:04.123456Z","#
        + #""source":{"kind":"postgres","name":"shop","db":"shop""#
}
private let table = #","schema":"public","table":"orders"}"#
private let tail =
    #","pos":{"lsn":"0/16B3748","commit_lsn":"0/16B37A0","xid":745,"seq":0},"#
    + #""schema":"693dd720cf9cddd5"}"#
private let row: [Cell] = ["7", "a \"b\"", "1.50", "2026-01-31 09:00:00+00"]
private let rowJSON =
    #"{"id":7,"note":"a \"b\"","total":1.50,"at":"2026-01-31T09:00:00+00:00"}"#

struct WeirLineTests {
    @Test(arguments: [(WeirCore.Operation.insert, "insert"), (.read, "read"), (.update, "update")])
    func aRowIsShownWithItsKey(operation: WeirCore.Operation, name: String) throws {
        #expect(
            try lines(.weir, operation, after: row)
                == [head(name) + table + #","key":{"id":7},"after":"# + rowJSON + tail]
        )
    }

    @Test func anUpdateWithAWholeRowBeforeNamesWhatChanged() throws {
        #expect(
            try lines(.weir, .update, before: ["7", nil, "1.5", "infinity"], after: row) == [
                head("update") + table + #","key":{"id":7},"after":"# + rowJSON
                    + #","before":{"id":7,"note":null,"total":1.5,"at":"infinity"}"#
                    + #","changed":["note","total","at"]"# + tail
            ]
        )
    }

    @Test func anUpdateThatChangedNothingSaysSo() throws {
        let line = try lines(.weir, .update, before: row, after: row)
        #expect(line[0].contains(#""},"changed":[],"pos""#))
    }

    @Test func aKeyChangeIsOneUpdateWithBothKeys() throws {
        #expect(
            try lines(
                .weir,
                .update,
                flags: Event.keyChanged | Event.beforeIsKey,
                before: ["6", .unchanged, .unchanged, .unchanged],
                after: row
            ) == [
                head("update") + table + #","key":{"id":7},"old_key":{"id":6},"after":"#
                    + rowJSON + tail
            ]
        )
    }

    @Test func aBeforeThatIsOnlyTheSameKeyIsLeftOut() throws {
        #expect(
            try lines(
                .weir,
                .update,
                flags: Event.beforeIsKey,
                before: ["7", .unchanged, .unchanged, .unchanged],
                after: row
            )
                == lines(.weir, .update, after: row)
        )
    }

    @Test func aBeforeOfAnotherIdentityThanTheKeyIsShown() throws {
        #expect(
            try lines(
                .weir,
                .update,
                flags: Event.beforeIsKey,
                before: [.unchanged, "old", .unchanged, .unchanged],
                after: row
            ) == [
                head("update") + table + #","key":{"id":7},"after":"# + rowJSON
                    + #","before":{"note":"old"}"# + tail
            ]
        )
    }

    @Test func unchangedColumnsAreNamedAndNeverNull() throws {
        #expect(
            try lines(.weir, .update, after: ["7", .unchanged, nil, .unchanged]) == [
                head("update") + table + #","key":{"id":7},"after":{"id":7,"total":null}"#
                    + #","unchanged":["note","at"]"# + tail
            ]
        )
    }

    @Test func aDeleteShowsWhatTheSourceGave() throws {
        #expect(
            try lines(
                .weir,
                .delete,
                flags: Event.beforeIsKey,
                before: ["7", .unchanged, .unchanged, .unchanged]
            )
                == [head("delete") + table + #","key":{"id":7},"before":{"id":7}"# + tail]
        )
        #expect(
            try lines(.weir, .delete, before: row)
                == [head("delete") + table + #","key":{"id":7},"before":"# + rowJSON + tail]
        )
    }

    @Test func aTruncateNamesItsOptions() throws {
        #expect(try lines(.weir, .truncate) == [head("truncate") + table + tail])
        #expect(
            try lines(.weir, .truncate, flags: Event.cascade | Event.restartIdentity) == [
                head("truncate") + table + #","cascade":true,"restart_identity":true"# + tail
            ]
        )
    }

    @Test func aMessageHasNoTable() throws {
        let schema = TableSchema.messages(version: 9, database: "shop")
        let pos = #","pos":{"lsn":"0/16B3748","commit_lsn":"0/16B37A0","xid":745,"seq":0}}"#
        #expect(
            try lines(.weir, .message, schema, after: ["app", "{\"a\":1}\n"]) == [
                head("message") + #"},"prefix":"app","content":"{\"a\":1}\n","transactional":true"#
                    + pos
            ]
        )
        #expect(
            try lines(
                .weir,
                .message,
                schema,
                flags: Event.outsideTransaction,
                after: ["app", .binary([0xFF, 0])]
            ) == [
                head("message") + #"},"prefix":"app","content":"\\xff00","binary":["content"]"#
                    + #","transactional":false"# + pos
            ]
        )
    }

    @Test func aChangeOutsideTransactionsHasNoTransactionId() throws {
        var batch = TestBatch()
        batch.transaction = 0
        batch.commit = 0x1_0000_0000
        batch.add(.truncate)
        #expect(
            try lines(.weir, batch.seal())[0]
                .contains(#""pos":{"lsn":"0/16B3748","commit_lsn":"1/0","seq":0}"#)
        )
    }

    @Test func bytesAndTypesWithoutARuleAreReported() throws {
        let schema = TableSchema.test([
            ("id", .int8), ("shape", .opaque), ("raw", .text), ("tags", .array(.text)),
        ])
        let line = try lines(
            .weir,
            .update,
            schema,
            before: ["7", "(1,1)", "a", "{a}"],
            after: ["7", "(1,2)", .binary([0xC3]), "{a"]
        )[0]
        #expect(
            line.contains(
                #""after":{"id":7,"shape":"(1,2)","raw":"\\xc3","tags":"{a"},"#
                    + #""before":{"id":7,"shape":"(1,1)","raw":"a","tags":["a"]},"#
                    + #""changed":["shape","raw","tags"],"binary":["raw"],"#
                    + #""types":{"shape":"public.geometry","tags":"_text"},"pos""#
            )
        )
    }

    @Test func notesOfOneLineDoNotReachTheNext() throws {
        var batch = TestBatch()
        batch.add(.update, after: ["7", .unchanged, .binary([0xFF]), nil])
        batch.add(.insert, after: row)
        let both = try lines(.weir, batch.seal())
        #expect(both[0].contains(#""unchanged":["note"],"binary":["total"]"#))
        let next = try lines(.weir, .insert, after: row)[0]
            .replacing(":00000000\"", with: ":00000001\"").replacing("\"seq\":0", with: "\"seq\":1")
        #expect(both[1] == next)
    }

    @Test func aTableWithoutKeyOrColumnsHasALine() throws {
        let keyless = TableSchema.test([("a", .int4)], key: [])
        let line = try lines(.weir, .insert, keyless, after: ["1"])[0]
        #expect(line.contains(#""table":"orders"},"after":{"a":1},"pos""#))
        let empty = TableSchema.test([], key: [])
        let other = try lines(.weir, .insert, empty)[0]
        #expect(other.contains(#""table":"orders"},"after":{},"pos""#))
    }

    @Test func eachTransactionHasItsOwnStamp() throws {
        var batch = TestBatch()
        batch.add(.truncate)
        batch.commit = 0xAB_0000_0001
        batch.transaction = 746
        batch.commitMicros = -1
        batch.add(.truncate)
        let both = try lines(.weir, batch.seal())
        #expect(both[0].hasPrefix(#"{"id":"pg:shop:00000000016B37A0:00000000""#))
        #expect(
            both[1].hasPrefix(
                #"{"id":"pg:shop:000000AB00000001:00000001","op":"truncate","#
                    + #""ts":"1969-12-31T23:59:59.999999Z""#
            )
        )
        #expect(both[1].contains(#""commit_lsn":"AB/1","xid":746,"seq":1}"#))
    }

    @Test func hostileNamesAndValuesStayJSON() throws {
        let names = [
            "__proto__", "a\"b", "back\\slash", "new\nline", "\u{1}", "😀", "é", "", "a,b:c{}", "'",
        ]
        let schema = TableSchema.test(
            names.map { ($0, .text) },
            key: [1, 3],
            schema: "s\"c",
            name: "t\n\u{7}"
        )
        let cells = names.map { Cell.text($0 + "\u{0}\"\\\u{2028}") }
        for format in LineFormat.allCases where format != .text {
            let line = try lines(format, .insert, schema, after: cells)
            #expect(line.count == 1)
            let parsed = try JSONDocument.parse(Array(line[0].utf8))
            let row = format == .row ? parsed : try #require(member("after", of: parsed))
            guard case .object(let members) = row.value else {
                Issue.record("not an object")
                return
            }
            #expect(members.map(\.key) == names)
        }
    }

    private func member(_ name: String, of node: JSONNode) -> JSONNode? {
        guard case .object(let members) = node.value else { return nil }
        return members.first { $0.key == name }?.value
    }

    @Test func theHashDependsOnNamesTypesAndKey() throws {
        func hash(_ schema: TableSchema) throws -> Substring {
            try lines(.weir, .truncate, schema)[0].suffix(18)
        }
        let base = try hash(.test([("a", .int4), ("b", .text)]))
        #expect(base == (try hash(.test([("a", .int4), ("b", .text)], version: 77))))
        #expect(base != (try hash(.test([("a", .int8), ("b", .text)]))))
        #expect(base != (try hash(.test([("ab", .int4), ("", .text)]))))
        #expect(base != (try hash(.test([("a", .int4), ("b", .text)], key: [1]))))
        #expect(base != (try hash(.test([("a", .int4), ("b", .text)], name: "other"))))
    }
}
