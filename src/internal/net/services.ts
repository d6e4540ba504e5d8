/**
 * The ports of TCP services by name, such as the `http` of `golang.org:http`. It knows no hosts.
 *
 * The names that are built into Go's resolver are always known. Others come from the machine's `/etc/services`, which
 * is read once, when such a name is first needed.
 */
import { readFileSync } from "node:fs"

const wellKnown: ReadonlyMap<string, number> = new Map([
  ["domain", 53],
  ["ftp", 21],
  ["ftps", 990],
  ["gopher", 70],
  ["http", 80],
  ["https", 443],
  ["imap2", 143],
  ["imap3", 220],
  ["imaps", 993],
  ["pop3", 110],
  ["pop3s", 995],
  ["smtp", 25],
  ["ssh", 22],
  ["submissions", 465],
  ["telnet", 23]
])

/** The TCP services in the text of a services file: `name port/protocol aliases # comment` on each line. */
export const parseServices = (text: string): ReadonlyMap<string, number> => {
  const services = new Map<string, number>()
  for (const line of text.split("\n")) {
    const [name, binding, ...aliases] = (line.split("#", 1)[0] ?? "").trim().split(/\s+/)
    const port = /^(\d{1,5})\/tcp$/.exec(binding ?? "")?.[1]
    if (name === undefined || port === undefined) continue
    for (const known of [name, ...aliases]) {
      // The first line with a name decides, as in getservbyname.
      if (!services.has(known.toLowerCase())) services.set(known.toLowerCase(), Number(port))
    }
  }
  return services
}

let ofThisMachine: ReadonlyMap<string, number> | undefined

const readServices = (): ReadonlyMap<string, number> => {
  try {
    return parseServices(readFileSync("/etc/services", "utf8"))
  } catch {
    // Small images and some systems have no such file. Then only the built-in names are known.
    return new Map()
  }
}

/** The TCP port of a service, whatever the case of its name. */
export const servicePort = (name: string): number | undefined => {
  const key = name.toLowerCase()
  return wellKnown.get(key) ?? (ofThisMachine ??= readServices()).get(key)
}
