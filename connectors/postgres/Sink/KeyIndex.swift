/// Finds the row of a key: an open hash table of row numbers. Keys stay where they are.
struct KeyIndex {
    private var slots: [Int32] = []
    private var hashes: [UInt64] = []

    /// The number of the row with this hash for which `isSame` holds; a new one, the next, if there
    /// is none.
    ///
    /// Complexity: O(1) on average.
    mutating func row(_ hash: UInt64, isSame: (Int) -> Bool) -> (row: Int, isNew: Bool) {
        if hashes.count * 2 >= slots.count { grow() }
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] >= 0 {
            let row = Int(slots[slot])
            if hashes[row] == hash, isSame(row) { return (row, false) }
            slot = (slot + 1) & mask
        }
        slots[slot] = Int32(hashes.count)
        hashes.append(hash)
        return (hashes.count - 1, true)
    }

    private mutating func grow() {
        slots = [Int32](repeating: -1, count: max(256, slots.count * 2))
        let mask = slots.count - 1
        for row in hashes.indices {
            var slot = Int(truncatingIfNeeded: hashes[row]) & mask
            while slots[slot] >= 0 { slot = (slot + 1) & mask }
            slots[slot] = Int32(row)
        }
    }
}

/// Hashes a key's parts one after the other: FNV-1a over words, then the finish of MurmurHash3,
/// because the lowest bits choose the slot.
struct KeyHash {
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325

    var value: UInt64 {
        var mixed = state
        mixed = (mixed ^ (mixed >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        mixed = (mixed ^ (mixed >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return mixed ^ (mixed >> 33)
    }

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var rest = unsafe bytes
        while rest.count >= 8 {
            mix(unsafe rest.loadUnaligned(as: UInt64.self))
            unsafe rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(8))
        }
        var last = UInt64(rest.count)
        for index in 0..<rest.count { last = last << 8 | UInt64(unsafe rest[index]) }
        // The length keeps neighbouring parts apart.
        mix(last ^ UInt64(bytes.count) << 56)
    }

    private mutating func mix(_ word: UInt64) {
        state = (state ^ word) &* 0x0000_0100_0000_01B3
        state ^= state >> 29
    }
}
