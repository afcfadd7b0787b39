import WeirCore
import WeirValues

/// Where a value is: in which batch of the write, and which of its values.
struct Cell: BitwiseCopyable {
    let batch: UInt32
    let value: UInt32
}

/// An event of a write.
struct EventPlace: BitwiseCopyable, Equatable {
    let batch: Int
    let event: Int
}

/// What a stretch of changes of one table amounts to: the last state of each key. Pure.
///
/// Only for tables whose keys tell rows apart. The order of rows is that in which keys came first.
struct ChangeSet {
    enum State: UInt8 {
        /// All columns are known.
        case whole
        /// Some columns keep what the target has.
        case part
        /// The row is to go.
        case gone
    }

    private(set) var states: [State] = []
    /// Whether the first change of a row was an update: the target has it, unless it never had.
    private(set) var wereThere: [Bool] = []
    /// `keyCount` per row.
    private var keys: [Cell] = []
    /// `width` per row; those of a row that is gone mean nothing.
    private var cells: [Cell] = []
    /// Whether a row's cells were set.
    private var isKnown: [Bool] = []
    private var index = KeyIndex()
    /// Of documents: their keys' bytes do not tell which are one to the target.
    private var texts: KeyTexts?
    private let keyCount: Int
    private let width: Int
    /// The source columns of key and outputs.
    private let keyColumns: [Int]
    private let columns: [Int]
    /// A row got another key and its unsent columns lie under the old one: only the order of
    /// changes tells what it is. Or other rows hang on one that goes.
    private(set) var needsOrder = false

    /// The end of a row would reach others at another time than it did at the source.
    private let isCascading: Bool

    init(_ plan: CopyPlan) {
        isCascading = plan.target.isCascading
        keyCount = plan.key.count
        width = plan.outputs.count
        keyColumns = plan.keyReferences.map(\.column)
        columns = plan.references.map(\.column)
        if plan.schema.isCollection { texts = plan.keyReferences.first.map(KeyTexts.init) }
    }

    var count: Int { states.count }

    func key(of row: Int) -> ArraySlice<Cell> { keys[row * keyCount..<(row + 1) * keyCount] }
    func cells(of row: Int) -> ArraySlice<Cell> { cells[row * width..<(row + 1) * width] }

    /// Takes the next change.
    mutating func add(_ place: EventPlace, in batches: [EventBatch]) {
        let event = batches[place.batch].events[place.event]
        switch event.operation {
        case .insert, .read:
            let row = row(keyOf: event.after, place.batch, batches)
            put(event.after, row, place.batch, batches, nil)
        case .update:
            var old: Int?
            if event.has(Event.keyChanged) {
                old = row(keyOf: event.before, place.batch, batches)
            }
            let known = count
            let new = row(keyOf: event.after, place.batch, batches)
            if new == known, old == nil { wereThere[new] = true }
            put(event.after, new, place.batch, batches, old ?? new)
            if let old, old != new { remove(old) }
        case .delete:
            remove(row(keyOf: event.before, place.batch, batches))
        case .truncate, .message: break
        }
    }

    private mutating func remove(_ row: Int) {
        states[row] = .gone
        if isCascading { needsOrder = true }
    }

    /// Gives a row the values of an image; what was not sent comes from the row `earlier`.
    private mutating func put(
        _ image: Slice, _ row: Int, _ batch: Int, _ batches: [EventBatch], _ earlier: Int?
    ) {
        var state = State.whole
        for (place, column) in columns.enumerated() {
            let value = Int(image.start) + column
            var cell = Cell(batch: UInt32(batch), value: UInt32(value))
            if batches[batch].values[value].form == .unchanged {
                if let earlier, states[earlier] != .gone, isKnown[earlier] {
                    cell = cells[earlier * width + place]
                } else if let earlier, earlier != row {
                    needsOrder = true
                }
                if batches[Int(cell.batch)].values[Int(cell.value)].form == .unchanged {
                    state = .part
                }
            }
            cells[row * width + place] = cell
        }
        if state == .part, let earlier, earlier != row { needsOrder = true }
        states[row] = state
        isKnown[row] = true
    }

    private mutating func row(
        keyOf image: Slice, _ batch: Int, _ batches: [EventBatch]
    ) -> Int {
        let source = batches[batch]
        let (row, isNew) =
            texts?.row(keyOf: image, in: source, &index) ?? find(image, source, batches)
        if isNew {
            for column in keyColumns {
                keys.append(
                    Cell(batch: UInt32(batch), value: UInt32(Int(image.start) + column)))
            }
            cells.append(
                contentsOf: repeatElement(Cell(batch: 0, value: 0), count: width))
            states.append(.gone)
            wereThere.append(false)
            isKnown.append(false)
        }
        return row
    }

    /// Finds a row by its key's bytes.
    private mutating func find(
        _ image: Slice, _ source: EventBatch, _ batches: [EventBatch]
    ) -> (row: Int, isNew: Bool) {
        var hash = KeyHash()
        for column in keyColumns {
            let value = source.values[Int(image.start) + column]
            unsafe source.arena.withUnsafeBytes { arena in
                unsafe hash.add(UnsafeRawBufferPointer(rebasing: arena[value.bytes.range]))
            }
        }
        return index.row(hash.value) { row in
            for (place, column) in keyColumns.enumerated() {
                let cell = keys[row * keyCount + place]
                let known = batches[Int(cell.batch)]
                let mine = source.values[Int(image.start) + column].bytes
                let other = known.values[Int(cell.value)].bytes
                guard mine.count == other.count else { return false }
                let isSame = unsafe source.arena.withUnsafeBytes { left in
                    unsafe known.arena.withUnsafeBytes { right in
                        unsafe UnsafeRawBufferPointer(rebasing: left[mine.range])
                            .elementsEqual(UnsafeRawBufferPointer(rebasing: right[other.range]))
                    }
                }
                if !isSame { return false }
            }
            return true
        }
    }
}

/// Tells documents apart by the text their key is written as. Pure.
///
/// Two keys may be one text, such as 1 and "1": to the target they are one row.
private struct KeyTexts {
    private let reference: FieldReference
    private let renderer = Renderer()
    /// The keys of all rows one behind the other, and where each begins.
    private var bytes: [UInt8] = []
    private var starts: [Int] = []

    /// Holds nothing from one key to the next.
    private final class Renderer {
        var text = OutputText()
        var key: [UInt8] = []
    }

    init(_ reference: FieldReference) { self.reference = reference }

    mutating func row(
        keyOf image: Slice, in batch: EventBatch, _ index: inout KeyIndex
    ) -> (row: Int, isNew: Bool) {
        render(image, batch)
        let key = renderer.key
        var hash = KeyHash()
        unsafe key.withUnsafeBytes { unsafe hash.add($0) }
        let found = index.row(hash.value) { row in
            let end = row + 1 < starts.count ? starts[row + 1] : bytes.count
            return bytes[starts[row]..<end].elementsEqual(key)
        }
        if found.isNew {
            starts.append(bytes.count)
            bytes += key
        }
        return found
    }

    private func render(_ image: Slice, _ batch: EventBatch) {
        let value = Int(image.start) + reference.column
        let isThere = batch.withView { renderer.text.render(reference, value, in: $0) }
        renderer.key.removeAll(keepingCapacity: true)
        // What is missing is not the empty text.
        renderer.key.append(isThere ? 1 : 0)
        if isThere { renderer.text.append(to: &renderer.key) }
    }
}
