import WeirCore
import WeirTesting

/// Tables with keys, unique values and foreign keys, a table that has none of these, and random
/// transactions that hold at their source.
struct SinkWorld {
    static let parents = TableSchema.test(
        "parents", version: 1, ["id int4", "code", "note"], key: [0])
    static let children = TableSchema.test(
        "children", version: 2, ["id int4", "parent int4", "big"], key: [0])
    static let slots = TableSchema.test("slots", version: 3, ["id int4", "rank int4"], key: [0])
    static let log = TableSchema.test(
        "log", version: 4, ["n int4", "v"], key: [0, 1], isKeyUnique: false)
    static let tables = [parents, children, slots, log]

    /// - Parameter rule: what becomes of children, such as `ON DELETE CASCADE`.
    static func definition(_ rule: String) -> String {
        """
        CREATE TABLE parents (id int PRIMARY KEY, code text UNIQUE, note text);
        CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents \(rule), big text);
        CREATE TABLE slots (id int PRIMARY KEY, rank int UNIQUE);
        CREATE TABLE log (n int, v text);
        """
    }

    /// All rows, in the words of `description`.
    static let query = """
        coalesce((SELECT string_agg(concat_ws(',', id, code, coalesce(note, '-')), ' ' ORDER BY id)
            FROM parents), '') || ' / ' ||
        coalesce((SELECT string_agg(concat_ws(',', id, coalesce(parent::text, '-'), big), ' '
            ORDER BY id) FROM children), '') || ' / ' ||
        coalesce((SELECT string_agg(concat_ws(',', id, rank), ' ' ORDER BY id) FROM slots), '')
            || ' / ' ||
        coalesce((SELECT string_agg(concat_ws(',', n, v), ' ' ORDER BY n, v COLLATE "C")
            FROM log), '')
        """

    struct Change {
        let table: TableSchema
        let change: RowChange
    }

    /// Rows by their key.
    private var parents: [Int: (code: String, note: Field)] = [:]
    private var children: [Int: (parent: Int?, big: String)] = [:]
    private var slots: [Int: Int] = [:]
    private var log: [(n: Int, v: String)] = []
    /// Children follow their parent, as with CASCADE.
    private let cascades: Bool
    private var changes: [Change] = []
    private var count = 0
    /// How often the shape of `slots` has changed.
    private var shapes = 0

    init(cascades: Bool) { self.cascades = cascades }

    var description: String {
        let all = [
            parents.sorted { $0.key < $1.key }
                .map { "\($0.key),\($0.value.code),\($0.value.note.string ?? "-")" },
            children.sorted { $0.key < $1.key }
                .map { "\($0.key),\($0.value.parent.map { "\($0)" } ?? "-"),\($0.value.big)" },
            slots.sorted { $0.key < $1.key }.map { "\($0.key),\($0.value)" },
            log.sorted { ($0.n, $0.v) < ($1.n, $1.v) }.map { "\($0.n),\($0.v)" },
        ]
        return all.map { $0.joined(separator: " ") }.joined(separator: " / ")
    }

    /// The changes of the next transaction, which this world then has.
    mutating func transaction(_ random: inout SeededGenerator) -> [Change] {
        changes = []
        switch random.below(14) {
        case 0: exchangeRanks(&random)
        case 1:
            // Nothing but inserts.
            for _ in 0..<(1 + random.below(120)) { insertLog(&random) }
        case 2 where random.below(4) == 0: truncate(&random)
        default:
            let size = random.below(8) == 0 ? 40 + random.below(300) : 1 + random.below(12)
            for _ in 0..<size { change(&random) }
        }
        return changes
    }

    private mutating func add(_ change: RowChange, _ table: TableSchema) {
        changes.append(Change(table: table, change: change))
    }

    private mutating func text(_ name: String) -> String {
        count += 1
        return "\(name)\(count)"
    }

    private mutating func change(_ random: inout SeededGenerator) {
        switch random.below(10) {
        case 0..<3: changeParent(&random)
        case 3..<6: changeChild(&random)
        case 6: changeSlot(&random)
        default: changeLog(&random)
        }
    }

    // MARK: Parents

    private mutating func changeParent(_ random: inout SeededGenerator) {
        let id = 1 + random.below(14)
        let codes = Set(parents.values.map(\.code))
        let free = (0..<20).map { "c\($0)" }.filter { !codes.contains($0) }
        let code = free[random.below(free.count)]
        let note = random.below(3) == 0 ? Field.null : Field(text("n"))
        guard let old = parents[id] else {
            parents[id] = (code, note)
            return add(.insert([Field("\(id)"), Field(code), note]), Self.parents)
        }
        let from = [Field("\(id)"), Field(old.code), old.note]
        let own = children.filter { $0.value.parent == id }.map(\.key).sorted()
        let mayLeave = own.isEmpty || cascades
        if random.below(4) == 0, mayLeave {
            parents[id] = nil
            add(.delete(from), Self.parents)
            for child in own { deleteChild(child) }
            return
        }
        let isNoteSent = random.below(3) > 0
        let isCodeChanged = random.below(2) == 0
        let new = (code: isCodeChanged ? code : old.code, note: isNoteSent ? note : old.note)
        let sent = isNoteSent ? note : .unchanged
        let other = 1 + random.below(14)
        if random.below(4) == 0, mayLeave, parents[other] == nil {
            parents[id] = nil
            parents[other] = new
            add(.update([Field("\(other)"), Field(new.code), sent], from: from), Self.parents)
            for child in own {
                let big = children[child]?.big ?? ""
                children[child] = (other, big)
                let isSent = random.below(2) == 0
                let row = [Field("\(child)"), Field("\(other)"), isSent ? Field(big) : .unchanged]
                add(.update(row), Self.children)
            }
        } else {
            parents[id] = new
            add(.update([Field("\(id)"), Field(new.code), sent]), Self.parents)
        }
    }

    // MARK: Children

    private mutating func changeChild(_ random: inout SeededGenerator) {
        let id = 1 + random.below(25)
        let ids = parents.keys.sorted()
        let parent = ids.isEmpty || random.below(5) == 0 ? nil : ids[random.below(ids.count)]
        let parentField = parent.map { Field("\($0)") } ?? .null
        let big = text("b")
        guard let old = children[id] else {
            children[id] = (parent, big)
            return add(.insert([Field("\(id)"), parentField, Field(big)]), Self.children)
        }
        if random.below(4) == 0 { return deleteChild(id) }
        let isSent = random.below(2) == 0
        let sent = isSent ? Field(big) : .unchanged
        let new = (parent: parent, big: isSent ? big : old.big)
        let other = 1 + random.below(25)
        children[id] = nil
        if random.below(4) == 0, children[other] == nil, other != id {
            children[other] = new
            add(
                .update(
                    [Field("\(other)"), parentField, sent],
                    from: [Field("\(id)"), .null, .null]), Self.children)
        } else {
            children[id] = new
            add(.update([Field("\(id)"), parentField, sent]), Self.children)
        }
    }

    private mutating func deleteChild(_ id: Int) {
        children[id] = nil
        add(.delete([Field("\(id)"), .null, .null]), Self.children)
    }

    // MARK: Slots

    /// Its shape now: the columns change places, as if one had been dropped and added again.
    private var slotsNow: TableSchema {
        shapes % 2 == 0
            ? .test("slots", version: UInt32(10 + shapes), ["id int4", "rank int4"], key: [0])
            : .test("slots", version: UInt32(10 + shapes), ["rank int4", "id int4"], key: [1])
    }

    private func slot(_ id: Int, _ rank: Int?) -> [Field] {
        let row = [Field("\(id)"), rank.map { Field("\($0)") } ?? .null]
        return shapes % 2 == 0 ? row : row.reversed()
    }

    private mutating func changeSlot(_ random: inout SeededGenerator) {
        if random.below(6) == 0 { shapes += 1 }
        let id = 1 + random.below(8)
        let taken = Set(slots.values)
        let free = (1...12).filter { !taken.contains($0) }
        let rank = free[random.below(free.count)]
        if slots[id] == nil {
            slots[id] = rank
            add(.insert(slot(id, rank)), slotsNow)
        } else if random.below(4) == 0 {
            slots[id] = nil
            add(.delete(slot(id, nil)), slotsNow)
        } else {
            slots[id] = rank
            add(.update(slot(id, rank)), slotsNow)
        }
    }

    /// All at once, as one UPDATE may where the source's constraint waits for its end.
    private mutating func exchangeRanks(_ random: inout SeededGenerator) {
        let ids = slots.keys.sorted()
        let ranks = ids.compactMap { slots[$0] }.shuffled(using: &random)
        for (id, rank) in zip(ids, ranks) where slots[id] != rank {
            slots[id] = rank
            add(.update(slot(id, rank)), slotsNow)
        }
    }

    // MARK: The log

    private mutating func insertLog(_ random: inout SeededGenerator) {
        let row = (n: random.below(9), v: "v\(random.below(3))")
        log.append(row)
        add(.insert([Field("\(row.n)"), Field(row.v)]), Self.log)
    }

    private mutating func changeLog(_ random: inout SeededGenerator) {
        guard !log.isEmpty, random.below(3) == 0 else { return insertLog(&random) }
        let old = log.remove(at: random.below(log.count))
        let from = [Field("\(old.n)"), Field(old.v)]
        if random.below(2) == 0 { return add(.delete(from), Self.log) }
        let new = (n: random.below(9), v: "v\(random.below(3))")
        log.append(new)
        add(.update([Field("\(new.n)"), Field(new.v)], from: from), Self.log)
    }

    private mutating func truncate(_ random: inout SeededGenerator) {
        if random.below(2) == 0 {
            log = []
            return add(.truncate, Self.log)
        }
        // One may not go without the other.
        (parents, children) = ([:], [:])
        add(.truncate, Self.parents)
        add(.truncate, Self.children)
    }
}
