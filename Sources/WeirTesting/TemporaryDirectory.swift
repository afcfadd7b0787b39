import Foundation
import Glibc

/// A new folder, removed with everything in it when the last reference goes, or when the process
/// ends.
///
/// It stands right below `/tmp` because the path of a unix socket has 107 bytes at most.
package final class TemporaryDirectory: Sendable {
    package let path: String

    package init() throws {
        var template = Array("/tmp/weir-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { name in
            guard let start = name.baseAddress, let made = unsafe mkdtemp(start) else {
                return nil as String?
            }
            return unsafe String(cString: made)
        }
        guard let made else {
            throw TestingError("could not create a folder in /tmp: \(errorText(errno))")
        }
        path = made
        try OrphanGuard.shared.get().watch(folder: path)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
        try? OrphanGuard.shared.get().forget(folder: path)
    }

    /// The path of `name` in this folder.
    package func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file into this folder and returns its path.
    @discardableResult
    package func write(_ text: String, to name: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: file(name)))
        return file(name)
    }
}
