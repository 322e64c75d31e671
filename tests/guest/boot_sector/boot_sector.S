# A boot sector that proves a disk through the BIOS: it runs in 16-bit real mode,
# so the firmware's own driver (SeaBIOS: byte-wide, polling, through the I/O BAR)
# is what talks to the device.
#
#   block 0   this sector
#   block 1   bytes that the test has written; summed and printed
#   block 2   written by this sector: block 1 with every byte inverted
#   block 3   byte 0 counts the boots
#
# On the first serial port, one line a step:
#
#   BOOT start
#   BOOT sum=HHHH         sum of the 256 words of block 1, mod 2^16
#   BOOT write=ok         block 2 written and read back, byte for byte
#   BOOT count=HH         boots so far, this one included
#   BOOT fail=HH          a BIOS call failed with that status; 00: wrong bytes
#
# Byte 8 of block 3 says what comes last: 0 ends the VM through ACPI, 1 resets
# it through the keyboard controller until the count is 2, 2 reads block 1 again
# and again, and prints "BOOT round" each 64 times.

.code16
.globl _start

.set BUFFER, 0x8000        # block 1, then what block 2 should be
.set READ_BACK, 0x8200
.set COUNTER, 0x8400

_start:
        cli
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x7c00, %sp
        ljmp $0, $1f
1:      sti
        cld
        movb %dl, drive
        call let_firmware_finish
        movw $say_start, %si
        call print

        # Block 1: sum it.
        movw $1, %ax
        movw $BUFFER, %bx
        movb $0x42, %cl
        call transfer
        movw $BUFFER, %si
        movw $256, %cx
        xorw %dx, %dx
2:      lodsw
        addw %ax, %dx
        loop 2b
        movw $say_sum, %si
        call print
        movb %dh, %al
        call print_hex
        movb %dl, %al
        call print_hex

        # Block 2: write its inverse, read that back, compare.
        movw $BUFFER, %si
        movw %si, %di
        movw $256, %cx
3:      lodsw
        notw %ax
        stosw
        loop 3b
        movw $2, %ax
        movw $BUFFER, %bx
        movb $0x43, %cl
        call transfer
        movw $2, %ax
        movw $READ_BACK, %bx
        movb $0x42, %cl
        call transfer
        movw $BUFFER, %si
        movw $READ_BACK, %di
        movw $256, %cx
        repe cmpsw
        movb $0, %ah
        jne fail
        movw $say_write, %si
        call print

        # Block 3: count this boot.
        movw $3, %ax
        movw $COUNTER, %bx
        movb $0x42, %cl
        call transfer
        incb COUNTER
        movw $3, %ax
        movw $COUNTER, %bx
        movb $0x43, %cl
        call transfer
        movw $say_count, %si
        call print
        movb COUNTER, %al
        call print_hex
        movw $say_end, %si
        call print

        cmpb $2, COUNTER + 8
        je again
        cmpb $1, COUNTER + 8
        jne power_off
        cmpb $2, COUNTER
        jae power_off
        movb $0xfe, %al         # pulse the CPU's reset line
        outb %al, $0x64
        jmp halt

power_off:
        movw $0x604, %dx        # PM1a control: SLP_EN, SLP_TYP 0
        movw $0x2000, %ax
        outw %ax, %dx
halt:   hlt
        jmp halt

again:  movw $64, %bp
4:      movw $1, %ax
        movw $BUFFER, %bx
        movb $0x42, %cl
        call transfer
        decw %bp
        jnz 4b
        movw $say_round, %si
        call print
        jmp again

# Moves block %ax to or from %bx with INT 13h function %cl (42h read, 43h write).
transfer:
        movw %ax, packet_block
        movw %bx, packet_buffer
        movb %cl, %ah
        xorb %al, %al
        movb drive, %dl
        movw $packet, %si
        int $0x13
        jc fail
        ret

.include "serial.inc"

say_start: .asciz "\r\nBOOT start\r\n"  # the firmware is in mid-line
say_sum:   .asciz "BOOT sum="
say_write: .asciz "\r\nBOOT write=ok\r\n"
say_count: .asciz "BOOT count="
say_round: .asciz "BOOT round\r\n"
say_fail:  .asciz "\r\nBOOT fail="
say_end:   .asciz "\r\n"

drive:  .byte 0
        .balign 4
packet: .byte 16, 0
        .word 1
packet_buffer: .word 0
        .word 0
packet_block: .quad 0

.org 510
        .word 0xaa55
