import Glibc

/// Where secrets come from: environment variables and files.
package struct ConfigEnvironment: Sendable {
    /// Why a file could not be read, in words that follow "could not read FILE: ".
    package struct FileFault: Error, Sendable, Equatable {
        package let reason: String

        package init(_ reason: String) {
            self.reason = reason
        }
    }

    package let variable: @Sendable (String) -> String?
    package let readFile: @Sendable (String) -> Result<[UInt8], FileFault>
    /// The rights of a file that can be read, and whether they could be changed at all; nil where
    /// it has none.
    package let fileRights: @Sendable (String) -> FileRights?

    package struct FileRights: Sendable {
        let mode: UInt32
        /// It lies in a volume that was mounted for reading only, as secrets of Kubernetes and
        /// Docker do.
        let isReadOnly: Bool

        package init(mode: UInt32, isReadOnly: Bool) {
            self.mode = mode
            self.isReadOnly = isReadOnly
        }
    }

    package init(
        variable: @escaping @Sendable (String) -> String?,
        readFile: @escaping @Sendable (String) -> Result<[UInt8], FileFault>,
        fileRights: @escaping @Sendable (String) -> FileRights? = { _ in nil }
    ) {
        self.variable = variable
        self.readFile = readFile
        self.fileRights = fileRights
    }

    /// The process's own variables, and the file system.
    package static let process = ConfigEnvironment(
        variable: { name in unsafe getenv(name).map { unsafe String(cString: $0) } },
        readFile: { path in
            RegularFile.read(path, bytesMax: secretBytesMax, allowsPipes: false).map(\.bytes)
        },
        fileRights: { path in
            var facts = stat()
            guard unsafe stat(path, &facts) == 0 else { return nil }
            var disk = statvfs()
            let isReadOnly =
                unsafe statvfs(path, &disk) == 0 && disk.f_flag & UInt(ST_RDONLY) != 0
            return FileRights(mode: UInt32(facts.st_mode), isReadOnly: isReadOnly)
        })

    /// Certificates and keys are a few KiB.
    private static let secretBytesMax = 64 * 1024
}

/// A whole file read at once.
enum RegularFile {
    struct Content {
        let bytes: [UInt8]
        let mode: UInt32
    }

    /// Reads at most one byte more than `bytesMax` and refuses a file that has it.
    ///
    /// - Parameter allowsPipes: whether the file may be one that cannot be read without waiting.
    static func read(
        _ path: String, bytesMax: Int, allowsPipes: Bool
    ) -> Result<Content, ConfigEnvironment.FileFault> {
        let flags = O_RDONLY | O_CLOEXEC | (allowsPipes ? 0 : O_NONBLOCK)
        let descriptor = unsafe open(path, flags)
        guard descriptor >= 0 else { return .failure(lastFault()) }
        defer { close(descriptor) }
        var facts = stat()
        guard unsafe fstat(descriptor, &facts) == 0 else { return .failure(lastFault()) }
        if !allowsPipes, facts.st_mode & S_IFMT != S_IFREG {
            return .failure(ConfigEnvironment.FileFault("it is not a regular file"))
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { buffer in
                unsafe Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return .failure(lastFault()) }
            if count == 0 { return .success(Content(bytes: bytes, mode: UInt32(facts.st_mode))) }
            bytes.append(contentsOf: chunk[..<count])
            if bytes.count > bytesMax {
                let limit = SizeNotation.text(bytesMax)
                return .failure(ConfigEnvironment.FileFault("it is larger than \(limit)"))
            }
        }
    }

    private static func lastFault() -> ConfigEnvironment.FileFault {
        unsafe ConfigEnvironment.FileFault(String(cString: strerror(errno)))
    }
}
