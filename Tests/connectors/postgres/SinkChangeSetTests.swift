import Testing
import WeirCore
import WeirTesting
import WeirValues

@testable import WeirPostgresSink

/// What a stretch of changes amounts to, beside a model that takes them one by one.
struct SinkChangeSetTests {
    /// Two key columns, which lie apart and in another order than the key; `d` is not written.
    private static let schema = TableSchema.test(
        "items", version: 1, ["b", "c", "a", "d", "e"], key: [2, 0])
    private static let written = [0, 1, 2, 4]

    private static func plan(isCascading: Bool = false) -> CopyPlan {
        let names = written.map { schema.columns[$0].name }
        return CopyPlan(
            schema: schema,
            target: TargetTable(
                name: TableName(schema: "public", name: "items"), oid: 1,
                columns: names.map {
                    TargetColumn(
                        name: $0, type: "text", sqlType: "text", isGenerated: false,
                        isAlwaysIdentity: false, comment: nil, isDemanded: false)
                }, uniqueKeys: [["a", "b"]], parents: [], isWatched: false,
                isCascading: isCascading, isDeferring: false),
            outputs: written.map {
                CopyPlan.Output(
                    name: schema.columns[$0].name, source: FieldReference(column: $0, of: schema),
                    isSettable: true)
            }, key: [2, 0], isKeyed: true, number: 1,
            takes: Operation.allCases.map { _ in true })
    }

    /// A value of the model: what it is, and whose value of the target that was, if it was one.
    private struct Cell: Equatable {
        var field: Field
        var origin: [Field]?
    }

    private typealias Table = [[Field]: [Cell]]

    private struct History {
        /// The target before, and what it must be in the end.
        var before: [[Field]: [Field]] = [:]
        var after: Table = [:]
        var batches: [EventBatch] = []
        var places: [EventPlace] = []
        /// Some row had another row's value that the stream did not bring.
        var isForeign = false
    }

    private static func key(_ row: [Field]) -> [Field] { schema.key.map { row[$0] } }

    // MARK: A history

    private static func make(_ random: inout SeededGenerator) -> History {
        var history = History()
        // Empty texts, prefixes of each other, and words of eight bytes and more.
        let parts: [Field] = ["", "x", "xy", "12345678", "123456789", "1234567812345678"]
        let keys = (0..<(2 + random.below(12))).map { _ in
            [parts[random.below(parts.count)], parts[random.below(parts.count)]]
        }
        for key in Set(keys) where random.below(2) == 0 {
            let row: [Field] = [key[1], "old c", key[0], "old d", nil]
            history.before[key] = row
            history.after[key] = row.map { Cell(field: $0, origin: key) }
        }
        var batch = RowBatch()
        let count = 1 + random.below(60)
        // What was not sent is rare in some histories and common in others.
        let rarity = 1 + random.below(12)
        for step in 0..<count {
            if let change = change(step, keys, rarity, &history, &random) {
                history.places.append(
                    EventPlace(batch: history.batches.count, event: batch.count))
                batch.add(change, to: schema, commit: 16, ordinal: UInt32(step))
            }
            if random.below(10) == 0 {
                history.batches.append(batch.seal(resume: nil))
                batch = RowBatch()
            }
        }
        history.batches.append(batch.seal(resume: nil))
        return history
    }

    /// The next change and its effect on the model; nil where there is none to make.
    private static func change(
        _ step: Int, _ keys: [[Field]], _ rarity: Int, _ history: inout History,
        _ random: inout SeededGenerator
    ) -> RowChange? {
        let key = keys[random.below(keys.count)]
        func value(_ name: String, _ random: inout SeededGenerator) -> Field {
            random.below(4) == 0 ? nil : Field("\(name) \(step)")
        }
        var row: [Field] = [key[1], value("c", &random), key[0], value("d", &random), nil]
        row[4] = value("e", &random)
        guard let old = history.after[key] else {
            history.after[key] = row.map { Cell(field: $0) }
            return .insert(row)
        }
        if random.below(4) == 0 {
            history.after[key] = nil
            return .delete(row)
        }
        var from: [Field]?
        var target = key
        if random.below(3) == 0 {
            let other = keys[random.below(keys.count)]
            if history.after[other] == nil {
                from = row
                target = other
                row[0] = other[1]
                row[2] = other[0]
            }
        }
        for column in [1, 3, 4] where random.below(rarity) == 0 { row[column] = .unchanged }
        let new = row.indices.map { column in
            row[column] == .unchanged ? old[column] : Cell(field: row[column])
        }
        history.after[key] = nil
        history.after[target] = new
        for column in written where new[column].origin != nil && new[column].origin != target {
            history.isForeign = true
        }
        return .update(row, from: from)
    }

    // MARK: What a set means

    private static func field(_ place: WeirPostgresSink.Cell, _ batches: [EventBatch]) -> Field {
        let batch = batches[Int(place.batch)]
        let value = batch.values[Int(place.value)]
        switch value.form {
        case .null: return .null
        case .unchanged: return .unchanged
        case .text, .binary, .bson, .bsonKey: return .text(Array(batch.arena[value.bytes.range]))
        }
    }

    /// The target after the set was written as `SetWriter` does: deletes, then the rest.
    private static func apply(
        _ set: ChangeSet, to before: [[Field]: [Field]], _ batches: [EventBatch], _ comment: String
    ) -> [[Field]: [Field]] {
        var table = before.mapValues { row in written.map { row[$0] } }
        let keys = (0..<set.count).map { row in set.key(of: row).map { field($0, batches) } }
        #expect(Set(keys).count == keys.count, "\(comment): a key is there twice")
        for (row, key) in keys.enumerated() where set.states[row] == .gone { table[key] = nil }
        for (row, key) in keys.enumerated() where set.states[row] != .gone {
            let fields = set.cells(of: row).map { field($0, batches) }
            #expect([fields[2], fields[0]] == key, "\(comment): a row under another's key")
            #expect(
                fields.contains(.unchanged) == (set.states[row] == .part),
                "\(comment): \(fields) is \(set.states[row])")
            if set.states[row] == .whole {
                table[key] = fields
            } else if let old = table[key] {
                table[key] = zip(fields, old).map { $0 == .unchanged ? $1 : $0 }
            } else {
                Issue.record("\(comment): a part of \(key), which the target lacks")
            }
        }
        return table
    }

    @Test(arguments: 0..<8 as Range<UInt64>)
    func aSetIsItsHistory(seed: UInt64) {
        let plan = Self.plan()
        var random = SeededGenerator(seed: seed)
        var ordered = 0
        for number in 0..<400 {
            let history = Self.make(&random)
            let comment = "seed \(seed) history \(number)"
            var set = ChangeSet(plan)
            for place in history.places { set.add(place, in: history.batches) }
            #expect(set.needsOrder == history.isForeign, "\(comment)")
            if set.needsOrder {
                ordered += 1
                continue
            }
            let expected = history.after.mapValues { row in Self.written.map { row[$0].field } }
            #expect(
                Self.apply(set, to: history.before, history.batches, comment) == expected,
                "\(comment)")
        }
        #expect((20...380).contains(ordered), "seed \(seed) is one-sided: \(ordered)")
    }

    // MARK: Single cases

    private func set(_ changes: RowChange...) -> (set: ChangeSet, batches: [EventBatch]) {
        let batch = RowBatch.transaction(changes, of: Self.schema, commit: 16)
        var set = ChangeSet(Self.plan())
        for index in changes.indices { set.add(EventPlace(batch: 0, event: index), in: [batch]) }
        return (set, [batch])
    }

    @Test func rowsComeInTheOrderOfTheirKeys() {
        let (set, batches) = set(
            .insert(["2", "c", "k", nil, "e"]), .insert(["1", "c", "k", nil, "e"]),
            .update(["2", "new", "k", nil, nil]), .delete(["3", nil, "k", nil, nil]))
        let keys = (0..<set.count).map { row in
            set.key(of: row).map { Self.field($0, batches) }
        }
        #expect(keys == [["k", "2"], ["k", "1"], ["k", "3"]])
        #expect(set.states == [.whole, .whole, .gone])
        #expect(set.cells(of: 0).map { Self.field($0, batches) } == ["2", "new", "k", nil])
    }

    @Test func keysAreNotTheirPartsJoined() {
        let (set, _) = set(
            .insert(["c", nil, "ab", nil, nil]), .insert(["bc", nil, "a", nil, nil]),
            .insert(["", nil, "abc", nil, nil]), .insert(["abc", nil, "", nil, nil]))
        #expect(set.count == 4)
    }

    /// What was not sent of a row that moved is in the target under its old key only.
    @Test func aMoveOfARowKnownInPartNeedsOrder() {
        let old: [Field] = ["1", "c", "k", nil, "e"]
        #expect(set(.update(["2", .unchanged, "k", nil, "e"], from: old)).set.needsOrder)
        #expect(!set(.update(["2", "c", "k", .unchanged, "e"], from: old)).set.needsOrder)
        #expect(
            !set(.insert(old), .update(["2", .unchanged, "k", nil, "e"], from: old)).set.needsOrder)
        #expect(
            set(
                .update(["1", .unchanged, "k", nil, "e"]),
                .update(["2", .unchanged, "k", nil, "e"], from: old)
            ).set.needsOrder)
    }

    /// Rows that refer to one that goes go with it, before or after changes of their own.
    @Test func theEndOfARowThatTakesOthersAlongNeedsOrder() {
        let row: [Field] = ["1", "c", "k", nil, "e"]
        for (change, isOrdered) in [
            (RowChange.insert(row), false), (.update(row), false), (.delete(row), true),
            (.update(["2", "c", "k", nil, "e"], from: row), true), (.update(row, from: row), false),
        ] {
            let batch = RowBatch.transaction([change], of: Self.schema, commit: 16)
            var set = ChangeSet(Self.plan(isCascading: true))
            set.add(EventPlace(batch: 0, event: 0), in: [batch])
            #expect(set.needsOrder == isOrdered, "\(change)")
        }
    }

    @Test func aRowThatWasUpdatedFirstWasThere() {
        let (set, _) = set(
            .update(["1", "c", "k", nil, "e"]), .insert(["2", "c", "k", nil, "e"]),
            .update(["2", "d", "k", nil, "e"]), .delete(["3", nil, "k", nil, nil]),
            .insert(["3", "c", "k", nil, "e"]),
            .update(["5", "c", "k", nil, "e"], from: ["4", nil, "k", nil, nil]))
        #expect(set.states == [.whole, .whole, .whole, .gone, .whole])
        #expect(set.wereThere == [true, false, false, false, false])
    }

    @Test func aRowThatExchangesItsKeyTwiceIsWhole() {
        let (one, two, three): ([Field], [Field], [Field]) = (
            ["1", "first", "k", nil, "e"], ["2", "second", "k", nil, "e"],
            ["3", "first", "k", nil, "e"]
        )
        let (set, batches) = set(
            .update(three, from: one), .update(["1", "second", "k", nil, "e"], from: two),
            .update(["2", "first", "k", nil, "e"], from: three))
        let rows = (0..<set.count).map { row in
            (
                set.key(of: row).map { Self.field($0, batches).string ?? "" }.joined(),
                set.states[row], Self.field(Array(set.cells(of: row))[1], batches)
            )
        }
        #expect(rows.map(\.0) == ["k1", "k3", "k2"])
        #expect(rows.map(\.1) == [.whole, .gone, .whole])
        #expect(rows[0].2 == "second" && rows[2].2 == "first")
    }

    // MARK: The index

    /// All rows of one hash, and hashes that differ only above the table's size.
    @Test(arguments: [0, 1, UInt64.max] as [UInt64])
    func collidingHashesAreToldApartByTheirKeys(spread: UInt64) {
        var index = KeyIndex()
        var keys: [Int] = []
        var random = SeededGenerator(seed: spread)
        for _ in 0..<3000 {
            let key = random.below(700)
            let hash: UInt64 = spread == 0 ? 7 : spread == 1 ? UInt64(key % 5) << 32 : UInt64(key)
            var asked: [Int] = []
            let (row, isNew) = index.row(hash) { row in
                asked.append(row)
                return keys[row] == key
            }
            #expect(isNew == !keys.contains(key))
            if isNew {
                #expect(row == keys.count)
                keys.append(key)
            }
            #expect(keys[row] == key)
            if spread == 1 { #expect(asked.allSatisfy { keys[$0] % 5 == key % 5 }) }
        }
        #expect(keys.count > 256, "the table has grown")
    }

    private static func hash(_ parts: [[UInt8]]) -> UInt64 {
        var hash = KeyHash()
        for part in parts { unsafe part.withUnsafeBytes { unsafe hash.add($0) } }
        return hash.value
    }

    @Test func aHashIsOfTheBytesWhereverTheyLie() {
        let bytes = [UInt8]((0..<64).map { UInt8($0) })
        for count in 0...40 {
            let expected = Self.hash([Array(bytes[..<count])])
            for shift in 1...9 {
                let moved = [UInt8](repeating: 0xEE, count: shift) + bytes
                var hash = KeyHash()
                unsafe moved.withUnsafeBytes { raw in
                    unsafe hash.add(
                        UnsafeRawBufferPointer(rebasing: raw[shift..<(shift + count)]))
                }
                #expect(hash.value == expected)
            }
        }
    }

    /// Short texts, where the parts meet, and runs of one byte.
    @Test func hashesOfUsualKeysDiffer() {
        var keys: Set<[[UInt8]]> = []
        let letters: [UInt8] = [0x01, 0x20, 0x61, 0xFF]
        for first in letters {
            for second in letters {
                for parts in [
                    [[], [first, second]], [[first], [second]], [[first, second], []],
                ] {
                    keys.insert(parts)
                }
            }
        }
        for count in 0...40 { keys.insert([[UInt8](repeating: 0x20, count: count)]) }
        for number in 0..<20_000 { keys.insert([Array("\(number)".utf8)]) }
        #expect(Set(keys.map(Self.hash)).count == keys.count)
    }

    /// The lowest bits choose the slot: where they come in few kinds, rows queue up behind each
    /// other. Of 4096 draws from 65,536 about 3970 differ.
    @Test(arguments: ["", "1000000", "SKU-", "tenant 7/"])
    func numbersInRisingOrderSpreadOverTheSlots(prefix: String) {
        let slots = Set((0..<4096).map { Self.hash([Array("\(prefix)\($0)".utf8)]) & 0xFFFF })
        #expect(slots.count > 3500)
    }
}
