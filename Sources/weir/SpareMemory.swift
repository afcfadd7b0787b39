import CMalloc
import Glibc

/// Keeps the daemon small while nothing happens; measured in the decision record
/// 20261121-startup-pages.
enum SpareMemory {
    /// Buffers above this go back to the system when they are freed, instead of into a heap that
    /// only shrinks at its end. A batch's arrays are larger, and are reused while events flow.
    private static let mappedBytes: Int32 = 256 << 10
    /// A heap per thread would keep a share of every burst in each.
    private static let heaps: Int32 = 2

    /// Call before any thread is started.
    static func limit() {
        _ = mallopt(M_MMAP_THRESHOLD, mappedBytes)
        _ = mallopt(M_ARENA_MAX, heaps)
    }

    /// Gives back what only a burst or the start needed.
    ///
    /// Reading the configuration and looking up protocol conformances touches most of the program's
    /// text once, and the kernel maps 64 KiB around each touch. Those pages are clean copies of the
    /// file: letting go of them costs a minor fault for each that is needed again.
    static func release() {
        _ = malloc_trim(0)
        for mapping in codeMappings() {
            let start = unsafe UnsafeMutableRawPointer(bitPattern: mapping.lowerBound)
            _ = unsafe madvise(start, Int(mapping.count), MADV_DONTNEED)
        }
    }

    /// Executable mappings of files. Those are never written to, unlike relocated data.
    private static func codeMappings() -> [Range<UInt>] {
        guard let file = unsafe fopen("/proc/self/maps", "r") else { return [] }
        defer { unsafe fclose(file) }
        var mappings: [Range<UInt>] = []
        var line = [CChar](repeating: 0, count: 4096)
        while unsafe fgets(&line, Int32(line.count), file) != nil {
            let text = line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            // 55f0c0000000-55f0c1d21000 r-xp 00000000 fe:00 5343035    /usr/local/bin/weir
            let fields = String(decoding: text, as: UTF8.self).split(separator: " ")
            guard fields.count >= 6, fields[1] == "r-xp", fields[5].hasPrefix("/") else { continue }
            let ends = fields[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            if ends.count == 2, ends[0] < ends[1] { mappings.append(ends[0]..<ends[1]) }
        }
        return mappings
    }
}
