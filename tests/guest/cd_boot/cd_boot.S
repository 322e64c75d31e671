# What an El Torito CD of the tests boots: 2048 bytes, loaded at 7C00h without
# emulation. Through the BIOS it reads the volume descriptor (block 16) and the
# block after the boot image, and tells the first serial port:
#
#   CD start
#   CD volume=CD001       bytes 1 to 5 of block 16
#   CD sum=HHHH           sum of the 1024 words of block 21, mod 2^16
#   CD fail=HH            a BIOS call failed with that status
#
# Then it ends the VM through ACPI.

.code16
.globl _start

.set BUFFER, 0x9000

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

        movw $16, packet_block
        call read
        movb $0, BUFFER + 6
        movw $say_volume, %si
        call print
        movw $BUFFER + 1, %si
        call print

        movw $21, packet_block
        call read
        movw $BUFFER, %si
        movw $1024, %cx
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
        movw $say_end, %si
        call print

        movw $0x604, %dx        # PM1a control: SLP_EN, SLP_TYP 0
        movw $0x2000, %ax
        outw %ax, %dx
halt:   hlt
        jmp halt

# One block, with INT 13h function 42h.
read:   movb $0x42, %ah
        movb drive, %dl
        movw $packet, %si
        int $0x13
        jc fail
        ret

.include "serial.inc"

say_start:  .asciz "CD start\r\n"
say_volume: .asciz "CD volume="
say_sum:    .asciz "\r\nCD sum="
say_fail:   .asciz "\r\nCD fail="
say_end:    .asciz "\r\n"

drive:  .byte 0
        .balign 4
packet: .byte 16, 0
        .word 1
        .word BUFFER
        .word 0
packet_block: .quad 0

.org 2048
