import WeirCore

extension TableSchema {
    /// A hash of the relation's names, types and key, the same in every process: FNV-1a, 64 bits
    /// (http://www.isthe.com/chongo/tech/comp/fnv/).
    ///
    /// Readers of events use it to see that a table changed; nothing is protected by it.
    var relationHash: UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func mix(_ byte: UInt8) {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
        }
        func mix(_ name: String) {
            name.utf8.forEach(mix)
            // No name holds a NUL, so `ab` + `c` and `a` + `bc` differ.
            mix(0)
        }
        mix(schema)
        mix(name)
        for (index, column) in columns.enumerated() {
            mix(column.name)
            mix(column.type.name)
            mix(key.contains(index) ? 1 : 0)
        }
        return hash
    }
}
